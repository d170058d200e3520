package stream

import (
	"testing"
	"time"
)

func TestDefaultPolicy(t *testing.T) {
	open := func(change func(o *Observation)) Observation {
		o := Observation{Open: true, Age: time.Second, Idle: time.Millisecond, Messages: 9, Draw: 0.5}
		change(&o)
		return o
	}
	for name, tc := range map[string]struct {
		o    Observation
		want Action
	}{
		"nothing to send":     {Observation{}, Keep},
		"a batch, no stream":  {Observation{Waiting: 1}, Create},
		"a stream in use":     {open(func(o *Observation) {}), Keep},
		"idle for 29 s":       {open(func(o *Observation) { o.Idle = 29 * time.Second }), Keep},
		"idle for 30 s":       {open(func(o *Observation) { o.Idle = IdleClose }), Close},
		"idle, but waiting":   {open(func(o *Observation) { o.Idle, o.Waiting = IdleClose, 1 }), Keep},
		"idle, outstanding":   {open(func(o *Observation) { o.Idle, o.Outstanding = IdleClose, 1 }), Keep},
		"119 s, gap":          {open(func(o *Observation) { o.Age, o.Idle = 119*time.Second, time.Second }), Keep},
		"120 s, gap":          {open(func(o *Observation) { o.Age, o.Idle = SoftAge, minGap }), Rotate},
		"120 s, no gap":       {open(func(o *Observation) { o.Age, o.Idle = SoftAge, minGap-1 }), Keep},
		"120 s, gap < RTT":    {open(func(o *Observation) { o.Age, o.Idle, o.SRTT = SoftAge, minGap, minGap+1 }), Keep},
		"120 s, waiting":      {open(func(o *Observation) { o.Age, o.Idle, o.Waiting = SoftAge, time.Second, 1 }), Keep},
		"110 s, drawn early":  {open(func(o *Observation) { o.Age, o.Idle, o.Draw = 110*time.Second, minGap, 0 }), Rotate},
		"130 s, drawn late":   {open(func(o *Observation) { o.Age, o.Idle, o.Draw = 130*time.Second, minGap, 0.999 }), Keep},
		"2^22 messages, gap":  {open(func(o *Observation) { o.Messages, o.Idle = SoftMessages, minGap }), Rotate},
		"2^22 messages, busy": {open(func(o *Observation) { o.Messages = SoftMessages }), Keep},
		"forced by number":    {open(func(o *Observation) { o.Messages, o.Waiting = ForcedMessages, 5 }), Rotate},
		"forced at 170 s":     {open(func(o *Observation) { o.Age, o.Waiting, o.Idle = ForcedAge, 5, 0 }), Rotate},
		"forced, rotating":    {open(func(o *Observation) { o.Age, o.Rotating = ForcedAge, true }), Keep},
		"idle, rotating":      {open(func(o *Observation) { o.Idle, o.Rotating = time.Hour, true }), Keep},
	} {
		if got := (DefaultPolicy{}).Decide(tc.o); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	if ForcedAge >= HardAge || ForcedMessages >= HardMessages || SoftMessages >= ForcedMessages {
		t.Error("the forced limits leave no time before the hard ones")
	}
}

func TestActionNames(t *testing.T) {
	for a, want := range map[Action]string{Keep: "keep", Create: "create", Rotate: "rotate", Close: "close"} {
		if a.String() != want {
			t.Errorf("%d: %q, want %q", a, a, want)
		}
	}
}
