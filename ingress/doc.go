// Package ingress takes the sealed messages of inbound streams, opens them, puts them back in
// order, unpacks them and writes their packets to a packet device.
//
// # Queues
//
// "ingress.stream", one per inbound stream, holds the messages that wait for their Ingresser,
// still sealed. Capacity: Config.WindowBytes, in bytes of messages, those that wait to be
// put in order included. When it is full the message is refused: its peer has sent more than
// its window, and package stream counts it.
//
// # What is not delivered
//
// A packet whose source address is not one of the peer's, by the certificate of the key that
// sealed it ("foreign source"), whose destination is not ours ("foreign destination"), or that
// is no whole IP packet ("malformed"), and what the device refuses ("write error").
package ingress
