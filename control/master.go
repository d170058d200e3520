package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// masterStart bounds how long a Master may take to be ready.
const masterStart = 10 * time.Second

// MasterOptions are for StartMaster. The zero value starts a Master that only this process can
// reach, with its store in memory.
type MasterOptions struct {
	// Listen is the "host:port" for TCP; port 0 means any free one. Empty means not to listen.
	Listen string
	// Websocket is the "host:port" for browsers and for networks that let nothing else pass; port
	// 0 means any free one. Empty means not to listen.
	Websocket string
	// TLS secures both; nil means no TLS. The Master is not trusted either way.
	TLS *tls.Config
	// Token is asked of whoever connects from outside the process and of Master.Fabric's users, who have
	// it already; empty means that anybody may connect.
	Token string
	// StoreDir keeps the directory in files there, so that it survives a restart. Empty means
	// memory, and a private temporary folder that Close removes.
	StoreDir string
	// MaxPayload is the longest message in bytes; 0 means 1 MiB.
	MaxPayload int
	// Logger gets the server's log; nil discards it.
	Logger *slog.Logger
}

// Master is a NATS server with JetStream inside this process. It installs no signal handlers,
// prints nothing, and several may run at once. Its methods are safe for concurrent use.
type Master struct {
	server *server.Server
	token  string
	tmp    string // removed on Close
	log    *masterLog

	closeOnce sync.Once
	closing   chan struct{} // closed by Close
	done      chan struct{} // closed when nothing runs any more
}

// StartMaster starts a Master and returns when it is ready, usually in a few milliseconds. An
// address in use or malformed, and a folder that cannot be written, are errors.
func StartMaster(o MasterOptions) (*Master, error) {
	so, err := o.server()
	if err != nil {
		return nil, fmt.Errorf("control: start Master: %w", err)
	}
	m := &Master{token: o.Token, log: newMasterLog(o.Logger), closing: make(chan struct{}), done: make(chan struct{})}
	if o.StoreDir == "" {
		if m.tmp, err = os.MkdirTemp("", "anchor-master-"); err != nil {
			return nil, fmt.Errorf("control: start Master: %w", err)
		}
		so.StoreDir = m.tmp
	}
	if err := m.start(so, o.StoreDir == ""); err != nil {
		return nil, fmt.Errorf("control: start Master: %w", err)
	}
	return m, nil
}

// server translates the options.
func (o *MasterOptions) server() (*server.Options, error) {
	so := &server.Options{
		DontListen: o.Listen == "", TLSConfig: o.TLS, Authorization: o.Token,
		JetStream: true, StoreDir: o.StoreDir,
		MaxPayload: int32(o.MaxPayload),
		NoLog:      true, NoSigs: true,
	}
	if o.TLS != nil {
		so.TLS, so.TLSTimeout = true, 5
	}
	var err error
	if o.Listen != "" {
		if so.Host, so.Port, err = splitListen(o.Listen); err != nil {
			return nil, err
		}
	}
	if o.Websocket != "" {
		ws := &so.Websocket
		if ws.Host, ws.Port, err = splitListen(o.Websocket); err != nil {
			return nil, err
		}
		ws.TLSConfig, ws.NoTLS = o.TLS, o.TLS == nil
	}
	return so, nil
}

// splitListen reads "host:port" as the server wants it: -1 for any port.
func splitListen(address string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("address %s: port %q is not a number from 0 to 65535", address, p)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// start runs the server. After an error nothing is left.
func (m *Master) start(so *server.Options, memory bool) error {
	s, err := server.NewServer(so)
	if err != nil {
		m.remove()
		return err
	}
	m.server = s
	s.SetLoggerV2(m.log, m.log.debug(), false, false)
	s.Start()
	go m.run()
	if err = m.log.fault(); err == nil && !s.ReadyForConnections(masterStart) {
		err = errors.New("the server is not ready")
	}
	if err == nil && memory {
		err = m.makeBuckets()
	}
	if err != nil {
		m.Close()
	}
	return err
}

// makeBuckets creates the buckets in memory, before a member makes them in files.
func (m *Master) makeBuckets() error {
	ctx, cancel := context.WithTimeout(context.Background(), masterStart)
	defer cancel()
	f := m.Fabric().(*natsFabric)
	f.storage = jetstream.MemoryStorage
	c, err := f.Connect(ctx)
	if err != nil {
		return err
	}
	return c.Close()
}

// run ends the server when Close asks or a listener of it has failed.
func (m *Master) run() {
	select {
	case <-m.closing:
	case <-m.log.failed:
	}
	m.server.Shutdown()
	m.server.WaitForShutdown()
	m.remove()
	close(m.done)
}

func (m *Master) remove() {
	if m.tmp != "" {
		os.RemoveAll(m.tmp) // what a virus scanner still holds open stays: nothing can be done here
	}
}

// URL is where members connect: nats:// or tls://host:port, the loopback address if the Master
// listens on all. It is "nats://in-process" if the Master does not listen; use Fabric then.
func (m *Master) URL() string {
	if m.Addr() == nil {
		return "nats://in-process"
	}
	return reachable(m.server.ClientURL())
}

// WebsocketURL is where members connect over a websocket: ws:// or wss://host:port. It is empty
// if the Master does not listen for websockets.
func (m *Master) WebsocketURL() string {
	u := reachable(m.server.WebsocketURL())
	if p, err := url.Parse(u); err != nil || p.Port() == "0" {
		return ""
	}
	return u
}

// reachable replaces an unspecified address, on which one can listen, by one to connect to.
func reachable(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		local := "127.0.0.1"
		if ip.To4() == nil {
			local = "::1"
		}
		u.Host = net.JoinHostPort(local, u.Port())
	}
	return u.String()
}

// Addr is the address that the Master listens on for TCP, nil if it does not.
func (m *Master) Addr() net.Addr { return m.server.Addr() }

// Fabric returns the Fabric that reaches this Master from within the process, without a socket.
func (m *Master) Fabric(options ...NATSOption) Fabric {
	own := []NATSOption{NATSInProcess(m)}
	if m.token != "" {
		own = append(own, NATSToken(m.token))
	}
	return NATS(m.URL(), append(own, options...)...)
}

// Done is closed when the Master has ended: after Close, or because it could not go on.
func (m *Master) Done() <-chan struct{} { return m.done }

// Err tells why a Master has ended: net.ErrClosed after Close. It is nil before Done.
func (m *Master) Err() error {
	select {
	case <-m.done:
	default:
		return nil
	}
	if err := m.log.fault(); err != nil {
		return fmt.Errorf("control: Master: %w", err)
	}
	return fmt.Errorf("control: Master: %w", net.ErrClosed)
}

// Close ends the Master and returns when nothing of it runs any more. It may be called more than
// once and from several goroutines. It returns nil.
func (m *Master) Close() error {
	m.closeOnce.Do(func() { close(m.closing) })
	<-m.done
	return nil
}
