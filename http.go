package anchor

import (
	"net/http"
	"sync"
	"time"
)

// httpClient is the one client of a node, so that its idle connections are shared and end with
// the node.
type httpClient struct {
	once   sync.Once
	client *http.Client
	mu     sync.Mutex
}

// HTTPClient returns an HTTP client whose connections go over the overlay: the host of a URL
// is a peer's name, overlay address or anchor id. Every call returns the same client. It uses
// no proxy, follows redirects as http.Client does, and its idle connections end when the node closes.
func (n *Node) HTTPClient() *http.Client {
	n.http.once.Do(func() {
		n.http.mu.Lock()
		defer n.http.mu.Unlock()
		n.http.client = &http.Client{Transport: &http.Transport{
			DialContext:         n.Dial,
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     90 * time.Second,
			WriteBufferSize:     64 << 10,
			ReadBufferSize:      64 << 10,
		}}
	})
	return n.http.client
}

func (h *httpClient) close() {
	h.mu.Lock()
	c := h.client
	h.mu.Unlock()
	if c != nil {
		c.CloseIdleConnections()
	}
}
