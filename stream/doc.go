// Package stream carries messages from one anchor to another, end to end: one way, sealed
// and signed, in a session that renews itself.
//
// The package has two halves. The machines know the bytes, the keys and the rules, and do no
// I/O; they start no goroutine and read no clock, time is an argument:
//
//	Initiator, Hello    the handshake, from both sides
//	Batch               packets laid out for one message, copied once
//	Signer              one ML-DSA-44 signature for the messages that wait for it
//	Sealer, Opener      an established stream's two directions, hard limits included
//	AckState, SendState what the receiver acknowledges, what the sender has outstanding
//	Restart, Policy     when a stream is given up, when it is renewed
//
// The Endpoint drives them: it sends, dispatches what arrives, and keeps the timers.
//
// # Numbers and keys
//
// Each direction of a stream has one counter, one key and one IV, and an AES-GCM nonce is
// made of IV and number (NIST SP 800-38D, section 8.2.1), so a number is taken once, by the
// Sealer alone, as the last thing before sealing. A sealed message never changes: sending it
// again sends the same bytes, hop limit and flags excepted, which no seal covers.
package stream
