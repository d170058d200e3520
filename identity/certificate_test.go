package identity

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// sealBytes signs body as it is, however it is encoded.
func sealBytes(t testing.TB, k *privateKey, c Context, body []byte) []byte {
	t.Helper()
	sig := must(k.sign(c, body, true))(t)
	return must(strict.marshal(signed{Body: body, Signature: sig}))(t)
}

// bodyOf returns the body of an identity's certificate.
func bodyOf(id *Identity) *certificateBody {
	return certificateBodyOf(id.Certificate(), id.Certificate().PublicKey.Bytes())
}

// testRealm is an authority of its own with one identity.
func testRealm(t testing.TB, clock func() time.Time) (*Authority, *Identity) {
	t.Helper()
	a := must(NewAuthority("test"))(t)
	a.Clock = clock
	return a, must(a.Issue(IssueOptions{Name: "bob", Groups: []string{"a", "b"}, IPv4: netip.MustParseAddr("10.0.0.1")}))(t)
}

// TestCertificateFields has the authority sign what it never would, and expects each wrong field to be found.
func TestCertificateFields(t *testing.T) {
	a, id := testRealm(t, nil)
	v := NewVerifier(id, nil)
	good := func() *certificateBody { return bodyOf(id) }
	must(v.Certificate(sealBytes(t, a.key, ContextCert, must(strict.marshal(good()))(t))))(t)
	for text, change := range map[string]func(b *certificateBody){
		"realm id of 31 bytes":      func(b *certificateBody) { b.Realm = b.Realm[:31] },
		"realm id of 0 bytes":       func(b *certificateBody) { b.Realm = nil },
		"name \"Bob\"":              func(b *certificateBody) { b.Name = "Bob" },
		"name \"\"":                 func(b *certificateBody) { b.Name = "" },
		"public key of 1311":        func(b *certificateBody) { b.PublicKey = b.PublicKey[:1311] },
		"group \"a\" is out of":     func(b *certificateBody) { b.Groups = []string{"b", "a"} },
		"group \"A\"":               func(b *certificateBody) { b.Groups = []string{"A"} },
		"invalid IP is not an IPv4": func(b *certificateBody) { b.IPv4 = []byte{10, 0, 0} },
		"is not an IPv4 address":    func(b *certificateBody) { b.IPv4 = make([]byte, 16) },
		"cannot be the address":     func(b *certificateBody) { b.IPv4 = []byte{127, 0, 0, 1} },
		"not-before 9":              func(b *certificateBody) { b.NotBefore, b.NotAfter = 9, 9 },
		"not-before 10":             func(b *certificateBody) { b.NotBefore, b.NotAfter = 10, 9 },
		"not-after 253402300800":    func(b *certificateBody) { b.NotAfter = maxUnix + 1 },
		"not-after 18446744073709":  func(b *certificateBody) { b.NotAfter = 1<<64 - 1 },
	} {
		b := good()
		change(b)
		_, err := v.Certificate(sealBytes(t, a.key, ContextCert, must(strict.marshal(b))(t)))
		wantErr(t, err, ErrFormat, text)
	}
}

// TestCertificateEncoding has the authority sign bodies that say the right thing in a wrong form.
func TestCertificateEncoding(t *testing.T) {
	a, id := testRealm(t, nil)
	v := NewVerifier(id, nil)
	b := bodyOf(id)
	good := must(strict.marshal(b))(t)
	if good[0] != 0xa8 || good[1] != 0x01 || good[2] != 0x58 {
		t.Fatalf("body begins with %x; the cases below build on a map of 8 pairs", good[:3])
	}
	tail := good[len(good)-5:] // a date, the last value
	pairs := good[1:]
	join := func(parts ...[]byte) []byte {
		var all []byte
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	for name, body := range map[string][]byte{
		"empty":               {},
		"null":                {0xf6},
		"array":               {0x80},
		"empty map":           {0xa0},
		"trailing byte":       join(good, []byte{0}),
		"cut":                 good[:len(good)-1],
		"unknown key":         join([]byte{0xa9}, pairs, []byte{0x09, 0x01}),
		"unknown text key":    join([]byte{0xa9}, pairs, []byte{0x61, 'x', 0x01}),
		"duplicate key":       join([]byte{0xa9}, pairs, []byte{0x08}, tail),
		"keys out of order":   join([]byte{0xa8, 0x08}, tail, good[1:len(good)-6]),
		"missing key":         join([]byte{0xa7}, good[1:len(good)-6]),
		"indefinite map":      join([]byte{0xbf}, pairs, []byte{0xff}),
		"long map header":     join([]byte{0xb8, 8}, pairs),
		"long key":            join([]byte{0xa8, 0x18, 0x01}, good[2:]),
		"long byte string":    join([]byte{0xa8, 0x01, 0x59, 0x00}, good[3:]),
		"long integer":        join(good[:len(good)-5], []byte{0x1b, 0, 0, 0, 0}, tail[1:]),
		"bignum":              join(good[:len(good)-5], []byte{0xc2, 0x44}, tail[1:]),
		"float":               join(good[:len(good)-5], []byte{0xfb, 0x41, 0xda, 0, 0, 0, 0, 0, 0}),
		"null integer":        join(good[:len(good)-5], []byte{0xf6}),
		"tagged":              join([]byte{0xd9, 0xd9, 0xf7}, good),
		"array for realm id":  join([]byte{0xa8, 0x01, 0x98}, good[3:4], make([]byte, 32), good[36:]),
		"negative serial":     withValue(t, b, 2, -1),
		"text for serial":     withValue(t, b, 2, "7"),
		"bytes for name":      withValue(t, b, 3, []byte("bob")),
		"invalid UTF-8":       withValue(t, b, 3, "b\xff"),
		"null groups":         withValue(t, b, 5, nil),
		"empty groups":        withValue(t, b, 5, []string{}),
		"group not text":      withValue(t, b, 5, []any{1}),
		"nested groups":       withValue(t, b, 5, []any{[]any{[]any{[]any{[]any{}}}}}),
		"empty IPv4":          withValue(t, b, 6, []byte{}),
		"null IPv4":           withValue(t, b, 6, nil),
		"negative not-before": withValue(t, b, 7, -5),
	} {
		_, err := v.Certificate(sealBytes(t, a.key, ContextCert, body))
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		wantErr(t, err, ErrFormat, "identity: certificate: ")
	}
	must(v.Certificate(sealBytes(t, a.key, ContextCert, good)))(t)
}

// withValue returns b's encoding with another value under a key.
func withValue(t testing.TB, b *certificateBody, key int, value any) []byte {
	t.Helper()
	var m map[int]any
	if err := strict.dec.Unmarshal(must(strict.marshal(b))(t), &m); err != nil {
		t.Fatal(err)
	}
	m[key] = value
	return must(strict.marshal(m))(t)
}

func TestCertificateOuterForm(t *testing.T) {
	a, id := testRealm(t, nil)
	v := NewVerifier(id, nil)
	raw := id.Certificate().Raw
	body := must(strict.marshal(bodyOf(id)))(t)
	sig := raw[len(raw)-SignatureSize:]
	outer := func(parts ...any) []byte { return must(strict.marshal(parts))(t) }
	for name, b := range map[string][]byte{
		"nil":             nil,
		"body alone":      outer(body),
		"three parts":     outer(body, sig, []byte{}),
		"short signature": outer(body, sig[:SignatureSize-1]),
		"long signature":  outer(body, append(sig[:SignatureSize:SignatureSize], 0)),
		"no signature":    outer(body, []byte{}),
		"null signature":  outer(body, nil),
		"null body":       outer(nil, sig),
		"text body":       outer(string(body[:1]), sig),
		"map":             must(strict.marshal(map[int][]byte{0: body, 1: sig}))(t),
		"oversize":        make([]byte, MaxCertificateSize+1),
	} {
		_, err := v.Certificate(b)
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		wantErr(t, err, ErrFormat, "identity: certificate: ")
	}
	must(v.Certificate(outer(body, sig)))(t)

	// Signed well, but by another key or for another purpose.
	_, err := v.Certificate(sealBytes(t, id.key, ContextCert, body))
	wantErr(t, err, ErrSignature, "bob.anchor")
	_, err = v.Certificate(sealBytes(t, a.key, ContextRevocation, body))
	wantErr(t, err, ErrSignature, "bob.anchor")
}

func TestCertificateOfAnotherRealm(t *testing.T) {
	_, id := testRealm(t, nil)
	other, stranger := testRealm(t, nil)
	_, err := NewVerifier(id, nil).Certificate(stranger.Certificate().Raw)
	wantErr(t, err, ErrForeignRealm, "bob.anchor is of another realm ("+other.Realm().Short())
	wantErr(t, NewVerifier(id, nil).Check(stranger.Certificate()), ErrForeignRealm, "bob.anchor")
}

// TestLargestCertificateFits pins MaxCertificateSize against what names and groups allow.
func TestLargestCertificateFits(t *testing.T) {
	a, _ := testRealm(t, nil)
	o := IssueOptions{Name: fmt.Sprintf("%063d", 0)[1:] + "x", IPv4: netip.MustParseAddr("10.0.0.9")}
	for i := range MaxGroups {
		o.Groups = append(o.Groups, fmt.Sprintf("g%062d", i))
	}
	a.nextSerial = 1<<64 - 2
	id := must(a.Issue(o))(t)
	if n := len(id.Certificate().Raw); n > MaxCertificateSize {
		t.Errorf("certificate of %d bytes, limit %d", n, MaxCertificateSize)
	}
	v := NewVerifier(id, nil)
	must(v.Certificate(id.Certificate().Raw))(t)
	s := must(NewSession(id, SessionOptions{MinEpoch: 1<<32 - 1, MinCounter: maxCounter - 10, MTU: MaxMTU}))(t)
	must(v.Record(s.Record().Raw))(t)
}

// TestCertificateRoundTrip issues random certificates and reads them back.
func TestCertificateRoundTrip(t *testing.T) {
	a, id := testRealm(t, nil)
	v := NewVerifier(id, nil)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 60 {
		o := IssueOptions{
			Name:      fmt.Sprintf("n%d", i),
			NotBefore: time.Unix(r.Int64N(maxUnix/2), r.Int64N(1e9)),
		}
		o.NotAfter = o.NotBefore.Add(time.Second + time.Duration(r.Int64N(1e18)))
		for range r.IntN(5) {
			o.Groups = append(o.Groups, fmt.Sprintf("g%d", r.IntN(10)))
		}
		if r.IntN(2) == 0 {
			o.IPv4 = netip.AddrFrom4([4]byte{10, byte(i), byte(r.Uint32()), byte(r.Uint32())})
		}
		want := must(a.Issue(o))(t).Certificate()
		got := must(v.Certificate(want.Raw))(t)
		if !reflect.DeepEqual(got.PublicKey.Bytes(), want.PublicKey.Bytes()) {
			t.Fatalf("%v: key differs", want)
		}
		g, w := *got, *want
		g.PublicKey, w.PublicKey = nil, nil
		if !reflect.DeepEqual(g, w) {
			t.Fatalf("read\n%+v\nissued\n%+v", g, w)
		}
		if g.Name != o.Name || g.IPv4 != o.IPv4 || !g.NotBefore.Equal(o.NotBefore.Truncate(time.Second)) || g.ID != ID(want.PublicKey.digest()) {
			t.Fatalf("read %+v, asked for %+v", g, o)
		}
	}
}

func TestCertificateKeepsNoReference(t *testing.T) {
	_, id := testRealm(t, nil)
	raw := append([]byte(nil), id.Certificate().Raw...)
	c := must(NewVerifier(id, nil).Certificate(raw))(t)
	clear(raw)
	if !reflect.DeepEqual(c.Raw, id.Certificate().Raw) || c.Name != "bob" || c.ID != id.ID() {
		t.Error("certificate changed with the bytes it was read from")
	}
}

func TestAddrs(t *testing.T) {
	a, bob := testRealm(t, nil)
	eve := must(a.Issue(IssueOptions{Name: "eve"}))(t)
	if got := bob.Certificate().Addrs(); len(got) != 2 || got[0] != a.Realm().Addr(bob.ID()) || got[1] != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("bob has %v", got)
	}
	if got := eve.Certificate().Addrs(); len(got) != 1 || got[0] != eve.Certificate().IPv6 {
		t.Errorf("eve has %v", got)
	}
}
