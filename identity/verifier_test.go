package identity

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestSeenBytesCostNoSignatureCheck takes the authority away: what was verified before is still
// known, anything else is refused.
func TestSeenBytesCostNoSignatureCheck(t *testing.T) {
	a, bob := testRealm(t, nil)
	eve := must(a.Issue(IssueOptions{Name: "eve"}))(t)
	rb, re := must(NewSession(bob, SessionOptions{}))(t).Record(), must(NewSession(eve, SessionOptions{}))(t).Record()
	v := NewVerifier(bob, nil)
	r := must(v.Record(rb.Raw))(t)
	v.authority = privateKeyFromSeed([32]byte{}).public
	if again := must(v.Record(append([]byte(nil), rb.Raw...)))(t); again != r {
		t.Error("equal bytes yield another record")
	}
	if c := must(v.Certificate(bob.Certificate().Raw))(t); c != r.Certificate {
		t.Error("equal bytes yield another certificate")
	}
	_, err := v.Record(re.Raw)
	wantErr(t, err, ErrSignature, "eve")
	_, err = v.Certificate(eve.Certificate().Raw)
	wantErr(t, err, ErrSignature, "eve")
}

func TestVerifierForgetsBeyondItsBound(t *testing.T) {
	a, bob := testRealm(t, nil)
	v := NewVerifier(bob, nil)
	v.certificates = newCache[*Certificate](4)
	first := must(v.Certificate(bob.Certificate().Raw))(t)
	for i := range 4 {
		must(v.Certificate(must(a.Issue(IssueOptions{Name: fmt.Sprint("n", i)}))(t).Certificate().Raw))(t)
	}
	if must(v.Certificate(bob.Certificate().Raw))(t) == first {
		t.Error("the oldest of five is remembered by a cache of four")
	}
}

func TestFailuresAreNotRemembered(t *testing.T) {
	_, bob := testRealm(t, nil)
	v := NewVerifier(bob, nil)
	right := v.authority
	v.authority = privateKeyFromSeed([32]byte{}).public
	_, err := v.Certificate(bob.Certificate().Raw)
	wantErr(t, err, ErrSignature, "bob")
	v.authority = right
	must(v.Certificate(bob.Certificate().Raw))(t)
}

func TestCheckDates(t *testing.T) {
	a, _ := testRealm(t, nil)
	from, to := goldenTime, goldenTime.Add(48*time.Hour)
	c := must(a.Issue(IssueOptions{Name: "dated", NotBefore: from, NotAfter: to}))(t)
	var now time.Time
	v := NewVerifier(c, func() time.Time { return now })
	for _, step := range []struct {
		at   time.Time
		want error
		text string
	}{
		{from.Add(-ClockTolerance - 1), ErrNotYetValid, "identity: dated.anchor: certificate is not valid before 2026-03-01 12:00:00 UTC (10 minutes tolerance; is this machine's clock right? it says 2026-03-01 11:49:59 UTC)"},
		{from.Add(-ClockTolerance), nil, ""},
		{from, nil, ""},
		{to, nil, ""},
		{to.Add(ClockTolerance), nil, ""},
		{to.Add(ClockTolerance + 1), ErrExpired, "identity: dated.anchor: certificate expired on 2026-03-03 12:00:00 UTC (10 minutes tolerance; is this machine's clock right? it says 2026-03-03 12:10:00 UTC)"},
		{time.Time{}, ErrNotYetValid, "it says 0001"},
	} {
		now = step.at
		err := v.Check(c.Certificate())
		if step.want == nil {
			if err != nil {
				t.Errorf("at %v: %v", now, err)
			}
			continue
		}
		wantErr(t, err, step.want, step.text)
	}
}

func TestApply(t *testing.T) {
	a, bob := testRealm(t, nil)
	lists := []*RevocationList{}
	for i := range 4 {
		must(a.Issue(IssueOptions{Name: fmt.Sprint("n", i)}))(t)
		lists = append(lists, must(a.Revoke(fmt.Sprint("n", i)))(t))
	}
	now := goldenTime
	v := NewVerifier(bob, func() time.Time { return now })
	if v.Current() != nil || v.Generation() != 0 || v.Apply(nil) {
		t.Error("a new verifier holds a list")
	}
	for _, step := range []struct {
		list int
		want bool
		held uint64
	}{{1, true, 2}, {1, false, 2}, {0, false, 2}, {3, true, 4}, {2, false, 4}} {
		if got := v.Apply(lists[step.list]); got != step.want || v.Current().Number != step.held || uint64(v.Generation()) != step.held {
			t.Errorf("list %d: adopted %v, then held %d", step.list+1, got, v.Current().Number)
		}
	}
	other, _ := testRealm(t, nil)
	for i := range 9 {
		must(other.Issue(IssueOptions{Name: fmt.Sprint("n", i)}))(t)
		must(other.Revoke(fmt.Sprint("n", i)))(t)
	}
	if v.Apply(other.Revocations()) {
		t.Error("another realm's list is adopted")
	}
	_, err := v.Revocations(other.Revocations().Raw)
	wantErr(t, err, ErrForeignRealm, "of another realm")

	// One that begins with the list its identity carries.
	eve := must(a.Issue(IssueOptions{Name: "eve"}))(t)
	if v := NewVerifier(eve, nil); v.Current() == nil || v.Current().Number != 4 || v.Generation() != 4 || v.Apply(lists[3]) {
		t.Error("the identity's own list is not in force")
	}
}

func TestAcceptsGeneration(t *testing.T) {
	a, bob := testRealm(t, nil)
	now := goldenTime
	v := NewVerifier(bob, func() time.Time { return now })
	accepts := func(want ...uint32) {
		t.Helper()
		for g := range uint32(5) {
			is := false
			for _, w := range want {
				is = is || g == w
			}
			if v.AcceptsGeneration(g) != is {
				t.Errorf("generation %d of %d is accepted: %v", g, v.Generation(), !is)
			}
		}
		if v.AcceptsGeneration(1<<32 - 1) {
			t.Error("generation -1 is accepted")
		}
	}
	revoke := func(name string) *RevocationList {
		must(a.Issue(IssueOptions{Name: name}))(t)
		return must(a.Revoke(name))(t)
	}
	accepts(0)
	v.Apply(revoke("x"))
	accepts(0, 1)
	now = now.Add(SecretGrace - 1)
	accepts(0, 1)
	second, third := revoke("y"), revoke("z")
	v.Apply(second)
	accepts(1, 2)
	now = now.Add(SecretGrace - 1)
	v.Apply(&RevocationList{Realm: a.Realm(), Number: 99, Generation: 2}) // a new list, the same secret
	accepts(1, 2)
	now = now.Add(1)
	accepts(2)
	third.Number = 100
	v.Apply(third)
	accepts(2, 3)
}

// TestVerifierInParallel gives the race detector something to look at, with a cache that is too small.
func TestVerifierInParallel(t *testing.T) {
	a, bob := testRealm(t, nil)
	v := NewVerifier(bob, nil)
	v.certificates, v.records = newCache[*Certificate](2), newCache[*Record](2)
	var raws [][]byte
	var lists []*RevocationList
	for i := range 4 {
		id := must(a.Issue(IssueOptions{Name: fmt.Sprint("n", i)}))(t)
		raws = append(raws, must(NewSession(id, SessionOptions{}))(t).Record().Raw)
		must(a.Issue(IssueOptions{Name: fmt.Sprint("x", i)}))(t)
		lists = append(lists, must(a.Revoke(fmt.Sprint("x", i)))(t))
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 40 {
				r, err := v.Record(raws[(i+g)%len(raws)])
				if err != nil {
					t.Error(err)
					return
				}
				if err := v.Check(r.Certificate); err != nil {
					t.Error(err)
				}
				v.Apply(lists[(i*g)%len(lists)])
			}
			v.Apply(lists[g])
		})
	}
	wg.Wait()
	if v.Current().Number != 4 {
		t.Errorf("list %d is in force", v.Current().Number)
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	a, bob := testRealm(t, nil)
	must(a.Issue(IssueOptions{Name: "x"}))(t)
	v := NewVerifier(bob, nil)
	v.Apply(must(a.Revoke("x"))(t))
	c := bob.Certificate()
	if n := testing.AllocsPerRun(100, func() { _ = v.Check(c); v.AcceptsGeneration(0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
