// Package control is an anchor's connection to the Master: the directory of records, presence,
// and sealed and signed messages to one anchor or to all (protocol section 7).
//
// The Master is untrusted. It is a [Fabric]: something that passes messages on by subject and
// keeps two buckets of keys and values. It sees digests and sizes; it can lose, delay, repeat and
// withhold what it is given, and nothing else. Two fabrics are here: [NATS], and [Memory] within
// one process, which can be told to misbehave. [New] puts the secure layer on a fabric: a
// [Channel], the same for every fabric.
//
// [StartMaster] runs a Master: a NATS server inside this process, reachable from within it,
// over TCP and over websockets, as asked.
//
// # What is sealed to whom
//
// Everything is sealed with a key that the sender's session derives from the realm secret, so
// that only members can read or write it, and signed by the sender. The body of a message to one
// anchor is sealed once more, to an epoch key of the receiver, so that other members cannot read
// it. A message to one anchor names the receiver's session: what is recorded today cannot be
// played to a later start.
//
// # Sessions
//
// Each start of an anchor is a session. A record or a message of a session other than the one
// known is believed once the new session answered a challenge, or if it is newer and nothing
// authentic came from the old one for 10 s. A session that finds its record replaced by another
// live one ends with [ErrIdentityInUse].
package control
