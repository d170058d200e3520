//go:build unix

package control_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/veil-net/anchor/control"
	"github.com/veil-net/anchor/internal/controltest"
)

// TestFrozenServer stops a real server with SIGSTOP: its connections stay up, and nothing answers.
func TestFrozenServer(t *testing.T) {
	p := controltest.StartProcess(t)
	r := controltest.NewRealm(t)
	a, b, c := r.Join(t, p.Fabric(""), "a"), r.Join(t, p.Fabric(""), "b"), r.Join(t, p.Fabric(""), "c")
	a.SendUntil(t, b, control.TopicSignal, []byte("x"))
	p.Signal(syscall.SIGSTOP)
	defer p.Signal(syscall.SIGCONT)

	ctx := controltest.Context(t)
	within := func(what string, limit time.Duration, f func(context.Context) error) {
		t.Helper()
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := f(short)
		if took := time.Since(began); took > limit {
			t.Errorf("%s took %v", what, took)
		}
		if err == nil && what != "close" {
			t.Errorf("%s: no error", what)
		}
	}
	within("look-up", 3*time.Second, func(ctx context.Context) error {
		_, err := a.Lookup(ctx, control.Key{Name: "nobody"}, false)
		if errors.Is(err, control.ErrUnknown) {
			t.Error("a frozen Master makes a name unknown")
		}
		return err
	})
	within("start", 3*time.Second, func(ctx context.Context) error { return r.New(t, p.Fabric(""), "d").Start(ctx, nil) })
	within("announce", 3*time.Second, a.Announce)
	within("send until the buffers are full", 3*time.Second, func(ctx context.Context) error {
		for {
			if err := a.Send(ctx, b.ID(), control.TopicData, make([]byte, 60000)); err != nil {
				return err
			}
		}
	})
	for _, m := range []*controltest.Member{a, c} { // with full buffers and with empty ones
		within("close", 3*time.Second, func(context.Context) error { return m.Close() })
	}
	p.Signal(syscall.SIGCONT)
	e := r.Join(t, p.Fabric(""), "e")
	b.SendUntil(t, e, control.TopicSignal, []byte("after"))
}
