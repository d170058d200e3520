package egress

import "github.com/veil-net/anchor/internal/stats"

// counters are what the stage "egress" counts, in packets unless noted.
type counters struct {
	in, out *stats.Counter

	malformed    *stats.Counter // not one whole IP packet
	foreign      *stats.Counter // the source address is not ours
	own          *stats.Counter // the destination address is ours
	destinations *stats.Counter // more destinations at once than Config.MaxDestinations
	slow         *stats.Counter // the destination's queue is full (kernel TUN)
	reply        *stats.Counter // reset or ICMP reply toward a full queue (in-process stack)
	segments     *stats.Counter // reads that gave more packets than the device was offered room for
	noRoute      *stats.Counter // nobody has the address
	prohibited   *stats.Counter // access is refused
	unreachable  *stats.Counter // sending failed
	expired      *stats.Counter // too old
	tooBig       *stats.Counter // fits no message
	closed       *stats.Counter // not sent when Close came

	ignored  *stats.Counter // multicast, broadcast and link-local
	retries  *stats.Counter // reads that failed and were tried again
	answered *stats.Counter // ICMP errors written to the source
	limited  *stats.Counter // ICMP errors not written, for their rate
}

func newCounters(s *stats.Stage) counters {
	return counters{
		in: &s.In, out: &s.Out,
		malformed:    s.Drop("malformed"),
		foreign:      s.Drop("foreign source"),
		own:          s.Drop("own address"),
		destinations: s.Drop("destination limit"),
		slow:         s.Drop("slow destination"),
		reply:        s.Drop("excess reply"),
		segments:     s.Drop("too many segments"),
		noRoute:      s.Drop("no route"),
		prohibited:   s.Drop("prohibited"),
		unreachable:  s.Drop("unreachable"),
		expired:      s.Drop("expired"),
		tooBig:       s.Drop("too big"),
		closed:       s.Drop("closed"),
		ignored:      s.Note("ignored"),
		retries:      s.Note("read retries"),
		answered:     s.Note("icmp sent"),
		limited:      s.Note("icmp limited"),
	}
}
