package tether

import "syscall"

// allowFragments clears DF, which Linux sets by default: SCTP's packets have a constant size
// (1,256 bytes with IPv4), and where the path carries less and tells nobody, a fragmented
// packet arrives and a lost one is lost for ever (RFC 1191 section 6.5 describes the default).
func allowFragments(fd uintptr) {
	_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER, syscall.IP_PMTUDISC_DONT)
	_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_MTU_DISCOVER, syscall.IPV6_PMTUDISC_DONT)
}
