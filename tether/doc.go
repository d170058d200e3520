// Package tether keeps WebRTC links to neighbouring anchors: it sets them up by signalling
// over the control channel, finds out when they die, and carries messages over them.
//
// A [Manager] has one tether to each neighbour, a [Neighbor]; package route sends through it,
// and a [Receiver] takes what arrives. Today a tether is one link, one RTCPeerConnection
// with one reliable unordered data channel, behind a small interface of this package's own.
//
// # Setting up
//
// Of two anchors the one with the lower id offers, and the other asks it to. So when both dial at once
// there is one offer, and one tether. Signalling may be lost, repeated, delayed or reordered: what is
// unanswered is sent again, and counters in link ids tell the newer attempt from the older.
//
//	higher id                                   lower id
//	   | -- ask: session, ICE credentials, DTLS fingerprint -> |
//	   | <- offer: the same, candidates ---------------------- |
//	   | -- answer, candidates ------------------------------> |
//	   | == ICE, DTLS, SCTP, data channel ==================== |
//	   | <- hello: both sessions --- (each way) --- hello ---> |
//
// The control channel authenticates who signals, in which session, and what: the DTLS fingerprint
// included, so that the link ends where the signalling came from. The hello at last binds the
// link to both sessions.
//
// # Life
//
// A tether lives while authenticated bytes arrive; nothing that WebRTC says about states counts. Both
// ends send heartbeats, ten a second while messages go and one a second else. Silence of 2 s while
// busy, 3 s while idle, longer where round trips are, ends it. If it was busy it is set up again
// at once; else the next Open does it. One without messages for a minute is closed.
package tether
