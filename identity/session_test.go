package identity

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"
)

func day(n int) time.Time { return time.Unix(int64(n)*86400, 0) }

func sessionAt(t testing.TB, id *Identity, now time.Time, o SessionOptions) *Session {
	t.Helper()
	o.Clock = func() time.Time { return now }
	return must(NewSession(id, o))(t)
}

func epochs(s *Session) string {
	r := s.Record()
	return fmt.Sprint(r.Previous.Epoch, " ", r.Current.Epoch)
}

func TestFirstEpoch(t *testing.T) {
	_, id := testRealm(t, nil)
	for _, c := range []struct {
		now  time.Time
		min  uint32
		want string
	}{
		{day(20000), 0, "19999 20000"},
		{day(20001).Add(-1), 0, "19999 20000"},
		{day(20000), 20007, "20006 20007"},
		{day(20000), 5, "19999 20000"},
		{day(0), 0, "0 1"}, // a machine without a battery for its clock
		{day(-9), 0, "0 1"},
		{time.Unix(1<<60, 0), 0, "4294967294 4294967295"},
		{time.Unix(1<<52, 0), 0, "4294967294 4294967295"},
	} {
		s := sessionAt(t, id, c.now, SessionOptions{MinEpoch: c.min})
		if got := epochs(s); got != c.want {
			t.Errorf("at %v, at least %d: epochs %s, want %s", c.now, c.min, got, c.want)
		}
		must(NewVerifier(id, nil).Record(s.Record().Raw))(t)
	}
}

func TestSessionOptions(t *testing.T) {
	_, id := testRealm(t, nil)
	if s := must(NewSession(id, SessionOptions{}))(t); s.Record().MTU != MinMTU || s.Identity() != id || s.Record().Session != s.Nonce() || s.Nonce() == (Nonce{}) {
		t.Errorf("record says %+v", s.Record())
	}
	for _, o := range []SessionOptions{{MTU: -1}, {MTU: 1279}, {MTU: 60001}, {MTU: 1 << 17}, {MinCounter: maxCounter}} {
		if _, err := NewSession(id, o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if r := sessionAt(t, id, day(-1), SessionOptions{MinCounter: 41}).Record(); r.Counter != 42 {
		t.Errorf("counter %d", r.Counter)
	}
	if r := sessionAt(t, id, day(20000), SessionOptions{MinCounter: 41}).Record(); r.Counter != 20000*86400*1000 {
		t.Errorf("counter %d", r.Counter)
	}
}

func TestAdvance(t *testing.T) {
	_, id := testRealm(t, nil)
	s := sessionAt(t, id, day(100), SessionOptions{})
	first := s.Record()
	for _, now := range []time.Time{day(100), day(101).Add(-1), day(99), day(-5)} {
		if changed := must(s.Advance(now))(t); changed || s.Record() != first {
			t.Fatalf("record changes at %v", now)
		}
	}
	if !must(s.Advance(day(101)))(t) || epochs(s) != "100 101" {
		t.Fatalf("epochs %s", epochs(s))
	}
	second := s.Record()
	if second.Counter <= first.Counter || !second.NewerThan(first) || second.Session != first.Session || second.Previous.Tag != first.Current.Tag {
		t.Error("the second record does not follow the first")
	}
	// Asleep for a week: the epoch before is the one that was in use.
	if !must(s.Advance(day(108)))(t) || epochs(s) != "101 108" {
		t.Errorf("epochs %s", epochs(s))
	}
	for _, tag := range []Tag{s.Record().Current.Tag, s.Record().Previous.Tag} {
		if !s.IsLocal(tag) {
			t.Error("own tag is not local")
		}
	}
	if s.IsLocal(first.Current.Tag) || s.IsLocal(Tag{}) {
		t.Error("a tag of two epochs ago, or none, is local")
	}
	r := must(NewVerifier(id, nil).Record(s.Record().Raw))(t)
	if r.Sequence != newChain(id.key.seed, 108).proof(0) {
		t.Error("the record commits to another epoch's chain")
	}
}

func TestObserve(t *testing.T) {
	a, id := testRealm(t, nil)
	eve := must(a.Issue(IssueOptions{Name: "eve"}))(t)
	for _, c := range []struct {
		name    string
		own     []int // days of the records observed, in order
		change  []bool
		want    string
		advance int // then the day it is
		after   string
	}{
		{"yesterday", []int{99}, []bool{false}, "99 100", 101, "100 101"},
		{"same day", []int{100}, []bool{false}, "99 100", 101, "100 101"},
		{"from the future", []int{110}, []bool{true}, "100 110", 109, "100 110"},
		{"days off", []int{90}, []bool{true}, "90 100", 101, "100 101"},
		{"two old ones", []int{80, 90}, []bool{true, true}, "90 100", 101, "100 101"},
		{"two old ones, the newer first", []int{90, 80}, []bool{true, false}, "90 100", 101, "100 101"},
		{"yesterday, then an older one", []int{99, 80}, []bool{false, false}, "99 100", 101, "100 101"},
		{"future, then old", []int{110, 80}, []bool{true, false}, "100 110", 111, "110 111"},
		{"future twice", []int{110, 120}, []bool{true, true}, "110 120", 121, "120 121"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sessionAt(t, id, day(100), SessionOptions{})
			for i, d := range c.own {
				before := s.Record()
				own := &Record{
					Certificate: id.Certificate(), Session: Nonce{1},
					Current: EpochKey{Epoch: uint32(d)}, Counter: uint64(d) * 86_400_000,
				}
				if d == 100 {
					own.Counter--
				}
				if changed := must(s.Observe(own))(t); changed != c.change[i] || changed != (s.Record() != before) {
					t.Errorf("observing day %d changed the record: %v", d, changed)
				}
				if !s.Record().NewerThan(own) {
					t.Errorf("record is not newer than that of day %d", d)
				}
				if !s.IsLocal(s.Record().Previous.Tag) {
					t.Error("previous tag is not local")
				}
			}
			if got := epochs(s); got != c.want {
				t.Errorf("epochs %s, want %s", got, c.want)
			}
			must(NewVerifier(id, nil).Record(s.Record().Raw))(t)
			must(s.Advance(day(c.advance)))(t)
			if got := epochs(s); got != c.after {
				t.Errorf("then epochs %s, want %s", got, c.after)
			}
		})
	}

	s := sessionAt(t, id, day(100), SessionOptions{})
	first := s.Record()
	for _, r := range []*Record{first, sessionAt(t, eve, day(200), SessionOptions{}).Record()} {
		if must(s.Observe(r))(t) || s.Record() != first {
			t.Errorf("a record of %v changes the session", r.Certificate)
		}
	}
	last := &Record{Certificate: id.Certificate(), Session: Nonce{1}, Current: first.Current, Counter: maxCounter}
	if _, err := s.Observe(last); err == nil || s.Record() != first {
		t.Errorf("a counter at its end: %v", err)
	}
	// Two starts in one millisecond, or a clock set back.
	twin := sessionAt(t, id, day(100), SessionOptions{}).Record()
	if !must(s.Observe(twin))(t) || s.Record().Counter != twin.Counter+1 {
		t.Errorf("counter %d after one of %d", s.Record().Counter, twin.Counter)
	}
}

func TestSetListNumber(t *testing.T) {
	a, id := testRealm(t, nil)
	s := must(NewSession(id, SessionOptions{}))(t)
	for _, c := range []struct {
		n    uint64
		want bool
	}{{0, false}, {3, true}, {3, false}, {2, false}, {4, true}} {
		before := s.Record()
		if changed := must(s.SetListNumber(c.n))(t); changed != c.want || s.Record().NewerThan(before) != c.want {
			t.Errorf("list %d after %d: changed %v", c.n, before.ListNumber, changed)
		}
	}
	must(s.Advance(time.Now().AddDate(0, 0, 2)))(t)
	if n := s.Record().ListNumber; n != 4 {
		t.Errorf("list number %d after an epoch", n)
	}
	must(a.Revoke("bob"))(t)
	eve := must(a.Issue(IssueOptions{Name: "eve"}))(t)
	if n := must(NewSession(eve, SessionOptions{}))(t).Record().ListNumber; n != 1 {
		t.Errorf("list number %d, the identity carries list 1", n)
	}
}

func TestDecapsulate(t *testing.T) {
	_, id := testRealm(t, nil)
	s := sessionAt(t, id, day(100), SessionOptions{})
	old := s.Record()
	must(s.Advance(day(101)))(t)
	r := s.Record()
	for _, e := range []EpochKey{r.Current, r.Previous} {
		ct, shared, err := Encapsulate(e.KEM)
		if err != nil {
			t.Fatal(err)
		}
		if got := must(s.Decapsulate(e.Tag, ct))(t); !bytes.Equal(got, shared) {
			t.Errorf("epoch %d: secrets differ", e.Epoch)
		}
	}
	ct, shared, _ := Encapsulate(old.Previous.KEM)
	_, err := s.Decapsulate(old.Previous.Tag, ct)
	wantErr(t, err, ErrUnknownTag, "identity: decapsulate")
	if got := must(s.Decapsulate(r.Current.Tag, ct))(t); bytes.Equal(got, shared) {
		t.Error("a ciphertext opens under another epoch's tag")
	}
	_, err = s.Decapsulate(r.Current.Tag, ct[1:])
	wantErr(t, err, ErrFormat, "1119 bytes")

	// The locator is deterministic and the keys come from the seed: another start opens the same.
	again := sessionAt(t, id, day(101), SessionOptions{})
	if again.Record().Current.Tag != r.Current.Tag || !bytes.Equal(again.Record().Current.KEM, r.Current.KEM) || again.Nonce() == s.Nonce() {
		t.Error("another session of the same day differs")
	}
}

func TestSequenceProof(t *testing.T) {
	_, id := testRealm(t, nil)
	s := sessionAt(t, id, day(100), SessionOptions{})
	r := s.Record()
	for _, n := range []uint32{0, 1, 777, MaxSequence} {
		if p := must(s.SequenceProof(r.Current.Tag, n))(t); !VerifySequence(r.Sequence, 0, p, n) {
			t.Errorf("proof of %d does not verify", n)
		}
	}
	if _, err := s.SequenceProof(r.Current.Tag, MaxSequence+1); err == nil {
		t.Error("a number beyond the chain has a proof")
	}
	for _, tag := range []Tag{r.Previous.Tag, {}} {
		_, err := s.SequenceProof(tag, 1)
		wantErr(t, err, ErrUnknownTag, "sequence proof")
	}
	must(s.Advance(day(101)))(t)
	if p := must(s.SequenceProof(r.Current.Tag, 5))(t); !VerifySequence(r.Sequence, 0, p, 5) {
		t.Error("the epoch before has lost its chain")
	}
}

// TestSessionInParallel advances while others read; each must see a state that is whole.
func TestSessionInParallel(t *testing.T) {
	_, id := testRealm(t, nil)
	s := sessionAt(t, id, day(100), SessionOptions{})
	v := NewVerifier(id, nil)
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			var last uint64
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := v.Record(s.Record().Raw)
				if err != nil {
					t.Error(err)
					return
				}
				if r.Counter < last {
					t.Errorf("counter fell from %d to %d", last, r.Counter)
				}
				last = r.Counter
				ct, shared, err := Encapsulate(r.Current.KEM)
				if err != nil {
					t.Error(err)
					return
				}
				// It may be two epochs old by now; if it is not, it opens.
				if got, err := s.Decapsulate(r.Current.Tag, ct); err == nil && !bytes.Equal(got, shared) {
					t.Error("secrets differ")
				}
			}
		})
	}
	for w := range 2 {
		writers.Go(func() {
			for i := range 4 {
				if _, err := s.Advance(day(101 + i)); err != nil {
					t.Error(err)
				}
				if _, err := s.SetListNumber(uint64(2*i + w)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if epochs(s) != "103 104" || s.Record().ListNumber != 7 {
		t.Errorf("epochs %s, list %d", epochs(s), s.Record().ListNumber)
	}
}

func TestIsLocalAllocatesNothing(t *testing.T) {
	_, id := testRealm(t, nil)
	s := must(NewSession(id, SessionOptions{}))(t)
	tag := s.Record().Previous.Tag
	if n := testing.AllocsPerRun(100, func() { s.IsLocal(tag); s.IsLocal(Tag{}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
