package identity

import "testing"

func TestDefaultAllow(t *testing.T) {
	for _, c := range []struct {
		own, peer []string
		want      bool
	}{
		{nil, nil, true},
		{nil, []string{"a"}, false},
		{[]string{"a"}, nil, false},
		{[]string{"a"}, []string{"a"}, true},
		{[]string{"a"}, []string{"b"}, false},
		{[]string{"a", "b"}, []string{"b", "c"}, true},
		{[]string{"a", "b"}, []string{"c", "d"}, false},
	} {
		own, peer := &Certificate{Groups: c.own}, &Certificate{Groups: c.peer}
		if got := DefaultAllow(own, peer); got != c.want {
			t.Errorf("groups %v and %v: %v", c.own, c.peer, got)
		}
		if DefaultAllow(own, peer) != DefaultAllow(peer, own) {
			t.Errorf("groups %v and %v: not the same both ways", c.own, c.peer)
		}
	}
}
