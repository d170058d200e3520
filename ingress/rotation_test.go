package ingress

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veil-net/anchor/identity"
	"github.com/veil-net/anchor/internal/wire"
)

// follower is a stream that takes over from in.
func follower(in *inbound, id byte) *inbound {
	next := newInbound(id)
	next.pred = in.id
	return next
}

func TestSuccessorWaitsForFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, func(c *Config) { c.Hold.Min = 40 * ms })
		first := newInbound(1)
		a := f.Accept(first)
		mustPush(t, a, seal(0, 0, packet4(0)))
		synctest.Wait()
		second := follower(first, 2)
		b := f.Accept(second)
		mustPush(t, b, seal(0, 0, packet4(10)), seal(1, 0, packet4(11)))
		time.Sleep(10 * ms)
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{0}) {
			t.Errorf("wrote %v before the first stream was through", got)
		}
		if opened, _, _ := second.count(); opened != 2 {
			t.Errorf("%d messages are opened while they wait, want 2: their acknowledgements are due", opened)
		}
		mustPush(t, a, seal(2, 0, packet4(2)))
		a.Final(3)
		time.Sleep(10 * ms)
		mustPush(t, a, seal(1, 0, packet4(1)))
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{0, 1, 2, 10, 11}) {
			t.Errorf("wrote %v", got)
		}
		f.wantDrops(nil)
		f.stop()
	})
}

func TestSuccessorWaitsAtMostTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, nil)
		first := newInbound(1)
		a := f.Accept(first)
		mustPush(t, a, seal(0, 0, packet4(0)))
		synctest.Wait()
		b := f.Accept(follower(first, 2))
		mustPush(t, b, seal(0, 0, packet4(10)))
		time.Sleep(50*ms - 1)
		synctest.Wait()
		if n := len(f.dev.Written()); n != 1 {
			t.Errorf("%d packets before 50 ms have passed", n)
		}
		time.Sleep(1)
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{0, 10}) {
			t.Errorf("wrote %v after 50 ms", got)
		}
		mustPush(t, b, seal(1, 0, packet4(11)))
		mustPush(t, a, seal(1, 0, packet4(1))) // sent again on the old stream
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); len(got) != 4 {
			t.Errorf("wrote %v", got)
		}
		f.stop()
	})
}

func TestSuccessorOfAStreamThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, nil)
		first := newInbound(1)
		a := f.Accept(first)
		second := follower(first, 2)
		b := f.Accept(second)
		mustPush(t, b, seal(0, 0, packet4(10)))
		synctest.Wait()
		a.Close() // while it is waited for
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{10}) {
			t.Errorf("wrote %v after the first stream was closed", got)
		}
		c := f.Accept(follower(first, 3))
		mustPush(t, c, seal(0, 0, packet4(20)))
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{10, 20}) {
			t.Errorf("wrote %v: a stream that is gone is waited for", got)
		}
		f.stop()
	})
}

func TestFinalBeforeAnyData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, nil)
		first := newInbound(1)
		a := f.Accept(first)
		a.Final(0)
		b := f.Accept(follower(first, 2))
		mustPush(t, b, seal(0, 0, packet4(10)))
		synctest.Wait()
		if got := numbersOf(f.dev.Written()); !slices.Equal(got, []int{10}) {
			t.Errorf("wrote %v", got)
		}
		f.stop()
	})
}

// Nobody can hold his stream, or another's, by naming the stream of somebody else.
func TestForeignPredecessorIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, nil)
		first := newInbound(1)
		f.Accept(first)
		second := follower(first, 2)
		second.cert = &identity.Certificate{ID: identity.ID{3}, IPv4: peer4}
		b := f.Accept(second)
		mustPush(t, b, seal(0, 0, packet4(10)))
		synctest.Wait()
		if n := len(f.dev.Written()); n != 1 {
			t.Errorf("%d packets at once", n)
		}
		none := newInbound(4)
		none.pred = wire.StreamID{}
		c := f.Accept(none)
		mustPush(t, c, seal(0, 0, packet4(11)))
		synctest.Wait()
		if n := len(f.dev.Written()); n != 2 {
			t.Errorf("%d packets at once", n)
		}
		f.stop()
	})
}
