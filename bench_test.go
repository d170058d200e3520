package anchor

import (
	"io"
	"testing"
	"time"
)

// BenchmarkTCP moves 256 KiB a time over one stream between two nodes in this process.
func BenchmarkTCP(b *testing.B) {
	r := newRealm(b)
	alice, bob := r.pair()
	l, err := bob.Listen("tcp", ":9")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	const chunk = 256 << 10
	done := make(chan struct{})
	total := int64(0)
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, chunk)
		for {
			n, err := c.Read(buf)
			total += int64(n)
			if err != nil {
				return
			}
		}
	}()
	c, err := alice.Dial(r.context(10*time.Second), "tcp", "bob:9")
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	c.Close()
	<-done
}

// BenchmarkRTT sends 64 bytes there and back over one stream.
func BenchmarkRTT(b *testing.B) {
	r := newRealm(b)
	alice, bob := r.pair()
	l, err := bob.Listen("tcp", ":7")
	if err != nil {
		b.Fatal(err)
	}
	echo(b, l)
	c, err := alice.Dial(r.context(10*time.Second), "tcp", "bob:7")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}
