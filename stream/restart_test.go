package stream

import (
	"testing"
	"time"
)

func TestRestart(t *testing.T) {
	const ms = time.Millisecond
	var r Restart
	at := epoch0
	if !r.Deadline(minPTO).IsZero() || r.Due(at.Add(time.Hour), minPTO) {
		t.Error("due with nothing outstanding")
	}
	due := func(what string, after, pto time.Duration) {
		t.Helper()
		if r.Due(at.Add(after-1), pto) || !r.Due(at.Add(after), pto) {
			t.Errorf("%s: due at %v, want after %v", what, r.Deadline(pto).Sub(at), after)
		}
	}
	r.Waiting(at)
	due("short PTO", 1000*ms, 300*ms)
	due("long PTO", 1500*ms, 500*ms)
	r.Waiting(at.Add(700 * ms))
	due("more data waits no longer", 1000*ms, 300*ms)

	for _, want := range []time.Duration{2000 * ms, 4000 * ms, 8000 * ms, 8000 * ms} {
		at = at.Add(10 * time.Second)
		r.Restarted(at)
		due("after a restart in vain", want, 300*ms)
	}
	due("PTO beyond the bound", 12*time.Second, 4*time.Second)
	at = at.Add(time.Second)
	r.Acked(at, true)
	due("after an acknowledgement", 1000*ms, 300*ms)
	r.Acked(at, false)
	if !r.Deadline(300 * ms).IsZero() {
		t.Error("due with everything acknowledged")
	}
	at = at.Add(time.Second)
	r.Waiting(at)
	due("data again", 1000*ms, 300*ms)
	r.Idle()
	if !r.Deadline(300 * ms).IsZero() {
		t.Error("due with everything given up")
	}
}
