package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsTimeout bounds each step of connecting: the dial, and the server's first answer.
const natsTimeout = 5 * time.Second

// A NATSOption changes how NATS connects.
type NATSOption func(*natsFabric)

// NATSTLS sets the TLS configuration for tls://, wss:// and servers that ask for TLS; nil means the
// system's roots. It is cloned.
func NATSTLS(c *tls.Config) NATSOption {
	return func(f *natsFabric) { f.options = append(f.options, nats.Secure(c.Clone())) }
}

// NATSUserPassword authenticates by name and password; those in the URL come first.
func NATSUserPassword(user, password string) NATSOption {
	return func(f *natsFabric) { f.options = append(f.options, nats.UserInfo(user, password)) }
}

// NATSToken authenticates by a token.
func NATSToken(token string) NATSOption {
	return func(f *natsFabric) { f.options = append(f.options, nats.Token(token)) }
}

// NATSCredentials authenticates by the user JWT and seed in a credentials file, read at each
// connection.
func NATSCredentials(file string) NATSOption {
	return func(f *natsFabric) { f.options = append(f.options, nats.UserCredentials(file)) }
}

// NATSNKeySeed authenticates by an NKey, whose seed (SU...) stands in a file. A file that cannot be read
// is reported by Connect (ErrConfig).
func NATSNKeySeed(file string) NATSOption {
	return func(f *natsFabric) {
		o, err := nats.NkeyOptionFromSeed(file)
		if err != nil {
			f.fault = fmt.Errorf("NKey seed %s: %w", file, err)
			return
		}
		f.options = append(f.options, o)
	}
}

// NATSName names the connection in the server's lists; the default is "anchor".
func NATSName(name string) NATSOption {
	return func(f *natsFabric) { f.options = append(f.options, nats.Name(name)) }
}

// NATSInProcess connects to a Master in this process without a socket. The URL is not used.
func NATSInProcess(m *Master) NATSOption {
	return func(f *natsFabric) {
		f.dial = func(context.Context, string, string) (net.Conn, error) { return m.server.InProcessConn() }
		f.inProcess = true
	}
}

// NATSDialer dials instead of net.Dialer: through a proxy, or, in a browser, over a WebSocket
// to the server's websocket port, with a nats:// URL and TLS left to the WebSocket. The function
// must return when ctx ends.
func NATSDialer(dial func(ctx context.Context, network, address string) (net.Conn, error)) NATSOption {
	return func(f *natsFabric) { f.dial = dial }
}

// NATSReplicas is how many servers of a cluster keep each bucket, when this connection is the
// one that makes it; 0 means 1.
func NATSReplicas(n int) NATSOption {
	return func(f *natsFabric) { f.replicas = n }
}

// NATSOptions passes options of nats.go through: the way out for what has no option here. Those
// that this package depends on are set after them and win: reconnecting, handlers, the dialer.
func NATSOptions(options ...nats.Option) NATSOption {
	return func(f *natsFabric) { f.options = append(f.options, options...) }
}

// NATS returns the Fabric of a NATS server or cluster with JetStream, version 2.9 or later. The
// url is one of nats://, tls://, ws:// or wss://host:port, or several of one kind separated by commas.
// A malformed URL is reported by Connect (ErrConfig).
//
// Buckets that do not exist are made: in files, or in memory if the server has no room for files.
// An existing bucket is used as it is, and refused (ErrConfig) if its settings do not serve.
func NATS(url string, options ...NATSOption) Fabric {
	f := &natsFabric{storage: jetstream.FileStorage}
	f.dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	for _, o := range options {
		o(f)
	}
	f.parse(url)
	return f
}

// natsFabric is a Fabric on a NATS cluster.
type natsFabric struct {
	urls      []string
	options   []nats.Option
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	inProcess bool
	replicas  int
	storage   jetstream.StorageType
	pending   int   // messages that wait for a slow handler; 0 means natsPending
	fault     error // of the URL or an option

	mu    sync.Mutex
	known []string // other servers of the cluster, as the last connection learned them
}

// parse checks the URLs: nats.go takes almost anything and fails late.
func (f *natsFabric) parse(urls string) {
	if f.inProcess {
		f.urls = []string{"nats://in-process"}
		return
	}
	for _, s := range strings.Split(urls, ",") {
		s = strings.TrimSpace(s)
		u, err := url.Parse(s)
		var scheme bool
		if err == nil {
			switch u.Scheme {
			case "nats", "tls", "ws", "wss":
				scheme = true
			}
		}
		switch {
		case err != nil:
			// The error of url.Parse repeats the text, password included.
			f.fault = errors.New("malformed URL")
		case !scheme || u.Hostname() == "":
			f.fault = fmt.Errorf("URL %q: want nats://, tls://, ws:// or wss:// and a host", u.Redacted())
		}
		f.urls = append(f.urls, s)
	}
}

// String implements Fabric.
func (f *natsFabric) String() string {
	var out []string
	for _, s := range f.urls {
		if u, err := url.Parse(s); err == nil {
			s = u.Redacted()
		} else {
			s = "a malformed URL"
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}

// Connect implements Fabric.
func (f *natsFabric) Connect(ctx context.Context) (Conn, error) {
	if f.fault != nil {
		return nil, fmt.Errorf("control: connect to %v: %w: %w", f, ErrConfig, f.fault)
	}
	c, err := f.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("control: connect to %v: %w", f, err)
	}
	return c, nil
}

func (f *natsFabric) connect(ctx context.Context) (*natsConn, error) {
	c := &natsConn{done: make(chan struct{}), subs: make(map[*nats.Subscription]uint64)}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	d := &natsDialer{ctx: ctx, dial: f.dial}
	options := append([]nats.Option{nats.Name("anchor")}, f.options...)
	options = append(options,
		nats.SetCustomDialer(d),
		nats.SkipHostLookup(), // the dialer resolves names, and obeys ctx
		nats.Timeout(natsTimeout),
		nats.NoReconnect(), // a Channel makes a new Conn, with back-off of its own
		nats.ReconnectBufSize(-1),
		nats.PingInterval(10*time.Second), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.note(err) }),
		nats.ErrorHandler(c.asyncError),
		nats.ClosedHandler(c.ended),
		func(o *nats.Options) error { o.NoCallbacksAfterClientClose = false; return nil },
	)
	nc, err := nats.Connect(strings.Join(f.servers(), ","), options...)
	if err != nil {
		d.abort()
		c.cancel(err)
		return nil, d.explain(ctx, err)
	}
	c.nc, c.socket, c.pending = nc, d.last(), f.pending
	if err := c.open(ctx, f); err != nil {
		c.Close()
		return nil, err
	}
	d.detach()
	f.learn(nc)
	return c, nil
}

// servers returns the configured URLs and those learned.
func (f *natsFabric) servers() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(append([]string(nil), f.urls...), f.known...)
}

// learn keeps the addresses of the cluster's other servers for the next Connect.
func (f *natsFabric) learn(nc *nats.Conn) {
	if f.inProcess {
		return
	}
	known := nc.DiscoveredServers()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = known
}
