package control

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLRU(t *testing.T) {
	l := newLRU[int, string](2)
	l.put(1, "one")
	l.put(2, "two")
	if v, ok := l.get(1); !ok || v != "one" {
		t.Fatal(v, ok)
	}
	if gone, evicted := l.put(1, "uno"); evicted {
		t.Fatal("replacing evicted", gone)
	}
	if gone, evicted := l.put(3, "three"); !evicted || gone != "two" {
		t.Fatal("evicted", gone, evicted)
	}
	if _, ok := l.get(2); ok {
		t.Fatal("2 is still there")
	}
	l.remove(1)
	l.remove(1)
	if _, ok := l.get(1); ok || len(l.items) != l.order.Len() || l.order.Len() != 1 {
		t.Fatal("1 is still there")
	}
}

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(10, 5)
		count := func() (n int) {
			for l.allow() {
				n++
			}
			return n
		}
		if n := count(); n != 5 {
			t.Errorf("%d at once, want the burst of 5", n)
		}
		time.Sleep(250 * time.Millisecond)
		if n := count(); n != 2 {
			t.Errorf("%d after 250 ms, want 2", n)
		}
		time.Sleep(time.Hour)
		if n := count(); n != 5 {
			t.Errorf("%d after an hour, want 5", n)
		}
	})
}

func TestBackoff(t *testing.T) {
	b := backoff{rnd: newJitter(1)}
	check := func(want time.Duration) {
		t.Helper()
		if d := b.wait(); d < want/2 || d > want*3/2 {
			t.Errorf("waits %v, want %v and half of it more or less", d, want)
		}
	}
	for _, want := range []time.Duration{100, 200, 400, 800, 1600, 2000, 2000} {
		check(want * time.Millisecond)
	}
	b.lasted(29 * time.Second)
	check(2 * time.Second)
	b.lasted(30 * time.Second)
	check(100 * time.Millisecond)
}

func TestJitter(t *testing.T) {
	j := newJitter(0)
	var least, most time.Duration = time.Hour, 0
	for range 1000 {
		d := j.upTo(time.Second)
		least, most = min(least, d), max(most, d)
	}
	if least < 0 || least > 50*time.Millisecond || most > time.Second || most < 950*time.Millisecond {
		t.Errorf("between %v and %v, want 0 to 1 s", least, most)
	}
	if newJitter(7).upTo(time.Hour) != newJitter(7).upTo(time.Hour) {
		t.Error("a seed does not repeat itself")
	}
}

func TestSubjectMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"a.b", "a.b", true}, {"a.b", "a.c", false}, {"a.b", "a", false}, {"a", "a.b", false},
		{"a.*", "a.b", true}, {"a.*", "a", false}, {"a.*", "a.b.c", false}, {"*.b", "a.b", true},
		{"a.>", "a.b", true}, {"a.>", "a.b.c", true}, {">", "a", true}, {"a.>", "b.c", false},
		{"$KV.records.>", "$KV.records.K.L", true},
	} {
		if got := subjectMatches(c.pattern, c.subject); got != c.want {
			t.Errorf("%q fits %q: %v", c.subject, c.pattern, got)
		}
	}
}
