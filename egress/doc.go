// Package egress takes packets from a packet source, sorts them by destination, and hands
// them on in batches of up to 25, one message each, to the stream toward the destination.
//
// # Queues
//
// "egress.destination", one per destination address, holds the packets that wait for its
// Egresser. Capacity: Config.QueueBytes, in bytes. When it is full: a source that gives its
// packets away in buffers (an in-process stack) is admitted beyond the capacity, since its
// writers wait by WaitRoom and its send buffers bound the rest, and resets and ICMP replies,
// which nothing bounds, are dropped ("excess reply"); the packets of any other source, a
// kernel TUN, are dropped ("slow destination"), because it cannot be read per destination and
// the other destinations must not wait.
//
// # What does not arrive
//
// A packet is given up when it is 2 s old ("expired"), when nobody has its address ("no
// route"), when access is refused ("prohibited"), or when sending fails ("unreachable"). Each
// is counted, and the sender gets an ICMP error through the source.
package egress
