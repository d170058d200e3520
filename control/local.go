package control

import (
	"net/netip"
	"net/url"
)

// Local reports whether a fabric is on this machine, as far as can be told without connecting:
// in this process, or at a loopback address. Anchors that meet there may well be neighbours on
// loopback too. A Fabric of your own says so with a method Local() bool.
func Local(f Fabric) bool {
	l, ok := f.(interface{ Local() bool })
	return ok && l.Local()
}

// Local reports that the fabric is in this process.
func (m *Memory) Local() bool { return true }

// Local reports that the fabric is in this process.
func (s memorySide) Local() bool { return true }

// Local reports whether a server of the fabric is in this process or at a loopback address.
func (f *natsFabric) Local() bool {
	if f.inProcess {
		return true
	}
	for _, s := range f.urls {
		u, err := url.Parse(s)
		if err != nil {
			continue
		}
		host := u.Hostname()
		if host == "localhost" {
			return true
		}
		if a, err := netip.ParseAddr(host); err == nil && a.IsLoopback() {
			return true
		}
	}
	return false
}
