package controltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/veil-net/anchor/control"
)

// Fabric is the conformance suite for fabrics.
func Fabric(t *testing.T, start func(t testing.TB) Server) {
	t.Run("messages", func(t *testing.T) { messages(t, start(t)) })
	t.Run("buckets", func(t *testing.T) { buckets(t, start(t)) })
	t.Run("watch", func(t *testing.T) { watch(t, start(t)) })
	t.Run("too large", func(t *testing.T) { tooLarge(t, start(t)) })
	t.Run("closed", func(t *testing.T) { closed(t, start(t)) })
	t.Run("restart", func(t *testing.T) { restart(t, start(t)) })
	t.Run("slow handler", func(t *testing.T) { slowHandler(t, start(t)) })
}

func connect(t *testing.T, f control.Fabric) control.Conn {
	t.Helper()
	c, err := f.Connect(Context(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// flush returns when what c published and subscribed before has reached the fabric.
func flush(t *testing.T, c control.Conn) {
	t.Helper()
	if err := c.Put(Context(t), control.BucketRecords, "flush", nil); err != nil {
		t.Fatal(err)
	}
}

func messages(t *testing.T, s Server) {
	a, b := connect(t, s.Fabric("a")), connect(t, s.Fabric("b"))
	got, any := make(chan string), make(chan string)
	stop := make(chan struct{})
	defer close(stop)
	to := func(c chan string) func([]byte) {
		return func(m []byte) {
			select {
			case c <- string(m):
			case <-stop:
			}
		}
	}
	cancel, err := b.Subscribe("x.to.B", to(got))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Subscribe("x.hint.*", to(any)); err != nil {
		t.Fatal(err)
	}
	flush(t, b)
	ctx := Context(t)
	for i := range 100 {
		for _, subject := range []string{"x.to.B", "x.to.C", "x.hint.A", "y.hint.A", "x.hint.A.B"} {
			if err := a.Publish(ctx, subject, fmt.Append(nil, subject, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 100 {
		if m := <-got; m != fmt.Sprint("x.to.B", i) {
			t.Fatalf("message %d to B: got %q", i, m)
		}
		if m := <-any; m != fmt.Sprint("x.hint.A", i) {
			t.Fatalf("broadcast %d: got %q", i, m)
		}
	}
	cancel()
	cancel()
	flush(t, b)
	if err := a.Publish(ctx, "x.to.B", []byte("late")); err != nil {
		t.Fatal(err)
	}
	if err := a.Publish(ctx, "x.hint.B", []byte("last")); err != nil {
		t.Fatal(err)
	}
	if m := <-any; m != "last" {
		t.Fatalf("got %q", m)
	}
	select {
	case m := <-got:
		t.Fatalf("got %q after cancel", m)
	default:
	}
	if n := b.Dropped(); n != 0 {
		t.Fatalf("%d dropped", n)
	}
}

func buckets(t *testing.T, s Server) {
	c := connect(t, s.Fabric("a"))
	ctx := Context(t)
	if c.Age() != 0 {
		t.Errorf("age of an empty directory: %v", c.Age())
	}
	for _, b := range []control.Bucket{control.BucketRecords, control.BucketPresence} {
		if _, err := c.Get(ctx, b, "none"); !errors.Is(err, control.ErrNoKey) {
			t.Fatalf("get of a key that is not there: %v", err)
		}
		for i, v := range [][]byte{[]byte("one"), []byte("two"), {}, bytes.Repeat([]byte{0, 255}, 9000)} {
			if err := c.Put(ctx, b, "K.L", v); err != nil {
				t.Fatal(err)
			}
			got, err := c.Get(ctx, b, "K.L")
			if err != nil || !bytes.Equal(got, v) {
				t.Fatalf("value %d: got %d bytes, %v", i, len(got), err)
			}
		}
	}
	if err := c.Delete(ctx, control.BucketRecords, "K.L"); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(ctx, control.BucketRecords, "K.L"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, control.BucketRecords, "K.L"); !errors.Is(err, control.ErrNoKey) {
		t.Fatalf("after delete: %v", err)
	}
	list(t, c)
	if d := connect(t, s.Fabric("b")); d.Age() == 0 || d.Age() > time.Minute {
		t.Errorf("age of a filled directory: %v", d.Age())
	}
}

func list(t *testing.T, c control.Conn) {
	ctx := Context(t)
	if vs, err := c.List(ctx, control.BucketRecords, "P", 16); err != nil || len(vs) != 0 {
		t.Fatalf("empty prefix: %d values, %v", len(vs), err)
	}
	for i := range 300 {
		if err := c.Put(ctx, control.BucketRecords, fmt.Sprintf("P.%d", i), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []string{"P", "Q.1", "P.1.2", "PP.1"} {
		if err := c.Put(ctx, control.BucketRecords, other, []byte("other")); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Delete(ctx, control.BucketRecords, "P.0"); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1, 16, 299, 1000} {
		vs, err := c.List(ctx, control.BucketRecords, "P", limit)
		if err != nil || len(vs) != min(limit, 299) {
			t.Fatalf("limit %d: %d values, %v", limit, len(vs), err)
		}
		for _, v := range vs {
			if len(v) != 1 {
				t.Fatalf("limit %d: value %q", limit, v)
			}
		}
	}
}

func watch(t *testing.T, s Server) {
	a, b := connect(t, s.Fabric("a")), connect(t, s.Fabric("b"))
	ctx := Context(t)
	for _, had := range []bool{false, true} {
		key := fmt.Sprint("key-", had)
		if had {
			if err := a.Put(ctx, control.BucketRecords, key, []byte("before")); err != nil {
				t.Fatal(err)
			}
		}
		got := make(chan string, 1)
		stop := make(chan struct{})
		defer close(stop)
		err := b.Watch(ctx, control.BucketRecords, key, func(v []byte) {
			select {
			case got <- string(v):
			case <-stop:
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"one", "two"}
		if had {
			want = []string{"before", "one", "two"}
		}
		for _, w := range want {
			if w != "before" {
				if err := a.Put(ctx, control.BucketRecords, key, []byte(w)); err != nil {
					t.Fatal(err)
				}
			}
			if g := <-got; g != w {
				t.Fatalf("had=%v: got %q, want %q", had, g, w)
			}
		}
	}
}

func tooLarge(t *testing.T, s Server) {
	c := connect(t, s.Fabric("a"))
	ctx := Context(t)
	big := make([]byte, c.MaxPayload()+1)
	if err := c.Publish(ctx, "x", big); !errors.Is(err, control.ErrTooLarge) {
		t.Errorf("publish: %v", err)
	}
	if err := c.Put(ctx, control.BucketRecords, "x", big); !errors.Is(err, control.ErrTooLarge) {
		t.Errorf("put: %v", err)
	}
	if err := c.Publish(ctx, "x", big[1:]); err != nil {
		t.Errorf("publish of the largest: %v", err)
	}
	flush(t, c)
	select {
	case <-c.Done():
		t.Fatal("the connection ended:", c.Err())
	default:
	}
}

func closed(t *testing.T, s Server) {
	c := connect(t, s.Fabric("a"))
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	<-c.Done()
	if c.Err() == nil {
		t.Error("no error after Close")
	}
	ctx := Context(t)
	_, getErr := c.Get(ctx, control.BucketRecords, "x")
	_, listErr := c.List(ctx, control.BucketRecords, "x", 1)
	_, subErr := c.Subscribe("x", func([]byte) {})
	for what, err := range map[string]error{
		"publish": c.Publish(ctx, "x", nil), "put": c.Put(ctx, control.BucketRecords, "x", nil),
		"get": getErr, "list": listErr, "subscribe": subErr,
		"delete": c.Delete(ctx, control.BucketRecords, "x"),
		"watch":  c.Watch(ctx, control.BucketRecords, "x", func([]byte) {}),
	} {
		if err == nil || errors.Is(err, control.ErrNoKey) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}

func restart(t *testing.T, s Server) {
	f := s.Fabric("a")
	c := connect(t, f)
	ctx := Context(t)
	if err := c.Put(ctx, control.BucketRecords, "x", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := c.Watch(ctx, control.BucketRecords, "x", func([]byte) {}); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	<-c.Done()
	if c.Err() == nil {
		t.Error("no error after the Master was killed")
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if d, err := f.Connect(short); err == nil {
		d.Close()
		t.Fatal("connected to a dead Master")
	}
	for _, empty := range []bool{false, true} {
		s.Restart(empty)
		d := connect(t, f)
		v, err := d.Get(ctx, control.BucketRecords, "x")
		switch {
		case empty && (!errors.Is(err, control.ErrNoKey) || d.Age() != 0):
			t.Fatalf("empty store: %q, %v, age %v", v, err, d.Age())
		case !empty && s.KeepsStore() && (err != nil || string(v) != "kept"):
			t.Fatalf("old store: %q, %v", v, err)
		}
		d.Close()
	}
}

func slowHandler(t *testing.T, s Server) {
	a, b := connect(t, s.Fabric("a")), connect(t, s.Fabric("b"))
	release, called := make(chan struct{}), make(chan struct{})
	n := 0
	if _, err := b.Subscribe("slow", func([]byte) {
		if n++; n == 1 {
			close(called)
			<-release
		}
	}); err != nil {
		t.Fatal(err)
	}
	fast := make(chan struct{}, 1)
	if _, err := b.Subscribe("fast", func([]byte) { fast <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	flush(t, b)
	ctx := Context(t)
	if err := a.Publish(ctx, "slow", nil); err != nil {
		t.Fatal(err)
	}
	<-called
	if err := a.Publish(ctx, "fast", nil); err != nil {
		t.Fatal(err)
	}
	<-fast // the slow handler holds up nobody else
	close(release)
}
