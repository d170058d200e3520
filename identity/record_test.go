package identity

import (
	"bytes"
	"testing"
)

// recordBodyOf returns the body of a session's record.
func recordBodyOf(t testing.TB, r *Record) *recordBody {
	t.Helper()
	var b recordBody
	must(unseal(r.Raw, MaxRecordSize, &b))(t)
	return &b
}

// TestRecordFields has an anchor sign what it should not, and expects each wrong field to be found.
func TestRecordFields(t *testing.T) {
	a, id := testRealm(t, nil)
	s := must(NewSession(id, SessionOptions{}))(t)
	eve := must(a.Issue(IssueOptions{Name: "eve"}))(t)
	v := NewVerifier(id, nil)
	seal := func(b *recordBody) []byte {
		return sealBytes(t, id.key, ContextRecord, must(strict.marshal(b))(t))
	}
	must(v.Record(seal(recordBodyOf(t, s.Record()))))(t)
	for text, c := range map[string]struct {
		change func(b *recordBody)
		want   error
	}{
		"session nonce of 31": {func(b *recordBody) { b.Session = b.Session[:31] }, ErrFormat},
		"commitment of 33":    {func(b *recordBody) { b.Sequence = make([]byte, 33) }, ErrFormat},
		"counter 92233720":    {func(b *recordBody) { b.Counter = maxCounter + 1 }, ErrFormat},
		"MTU 1279":            {func(b *recordBody) { b.MTU = 1279 }, ErrFormat},
		"MTU 60001":           {func(b *recordBody) { b.MTU = 60001 }, ErrFormat},
		"previous epoch":      {func(b *recordBody) { b.Current, b.Previous = b.Previous, b.Current }, ErrFormat},
		"current epoch":       {func(b *recordBody) { b.Previous = b.Current }, ErrFormat},
		"locator of 2419":     {func(b *recordBody) { b.Current.Locator = b.Current.Locator[1:] }, ErrFormat},
		"X-Wing key of 1217":  {func(b *recordBody) { b.Previous.KEM = make([]byte, 1217) }, ErrFormat},
		"certificate":         {func(b *recordBody) { b.Certificate = nil }, ErrFormat},
		"signature is not":    {func(b *recordBody) { b.Certificate = flipped(b.Certificate, 8*3000) }, ErrSignature},
		"record of eve":       {func(b *recordBody) { b.Certificate = eve.Certificate().Raw }, ErrSignature},
		"locator of epoch":    {func(b *recordBody) { b.Current.Locator = flipped(b.Current.Locator, 5000) }, ErrSignature},
		"locator of":          {func(b *recordBody) { b.Previous.Epoch-- }, ErrSignature},
	} {
		b := recordBodyOf(t, s.Record())
		c.change(b)
		_, err := v.Record(seal(b))
		wantErr(t, err, c.want, text)
		wantErr(t, err, c.want, "identity: record")
	}
	_, err := v.Record(make([]byte, MaxRecordSize+1))
	wantErr(t, err, ErrFormat, "at most")
	_, err = v.Record(sealBytes(t, id.key, ContextControl, must(strict.marshal(recordBodyOf(t, s.Record())))(t)))
	wantErr(t, err, ErrSignature, "record of bob.anchor")
}

func TestRecordRoundTrip(t *testing.T) {
	_, id := testRealm(t, nil)
	s := must(NewSession(id, SessionOptions{MTU: 9000}))(t)
	must(s.SetListNumber(77))(t)
	want := s.Record()
	raw := bytes.Clone(want.Raw)
	got := must(NewVerifier(id, nil).Record(raw))(t)
	clear(raw) // the record keeps no reference
	if got.ID() != id.ID() || got.Session != want.Session || got.Counter != want.Counter || got.MTU != 9000 ||
		got.Sequence != want.Sequence || got.ListNumber != 77 || !bytes.Equal(got.Raw, want.Raw) {
		t.Errorf("read %+v", got)
	}
	for _, e := range [][2]EpochKey{{got.Current, want.Current}, {got.Previous, want.Previous}} {
		if e[0].Epoch != e[1].Epoch || e[0].Tag != e[1].Tag || !bytes.Equal(e[0].Locator, e[1].Locator) || !bytes.Equal(e[0].KEM, e[1].KEM) {
			t.Errorf("epoch %d read as %d", e[1].Epoch, e[0].Epoch)
		}
		if k, ok := got.Epochs(e[1].Tag); !ok || k.Epoch != e[1].Epoch {
			t.Errorf("tag of epoch %d names %v", e[1].Epoch, k)
		}
	}
	if _, ok := got.Epochs(Tag{1}); ok {
		t.Error("a foreign tag names an epoch")
	}
}

func TestNewerThan(t *testing.T) {
	r := func(epoch uint32, counter uint64) *Record {
		return &Record{Current: EpochKey{Epoch: epoch}, Counter: counter}
	}
	ordered := []*Record{r(1, 1), r(1, 2), r(1, 1<<40), r(2, 1), r(1<<32-1, 0)}
	for i, a := range ordered {
		for j, b := range ordered {
			if a.NewerThan(b) != (i > j) {
				t.Errorf("record %d is newer than %d: %v", i, j, i <= j)
			}
		}
	}
}

func TestTagOf(t *testing.T) {
	const want = "5e6b66ac37edf319cb3ebb1b9cff517d" // by printf and sha256sum
	locator := bytes.Repeat([]byte{0xab}, 3)
	if got := TagOf(ID{1}, locator); hexOf(got[:]) != want {
		t.Errorf("tag is %x, want %s", got, want)
	}
	if TagOf(ID{1}, locator) == TagOf(ID{2}, locator) || TagOf(ID{1}, locator) == TagOf(ID{1}, locator[:2]) {
		t.Error("different destinations have one tag")
	}
}
