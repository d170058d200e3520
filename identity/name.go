package identity

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxNameLength is the longest name of an anchor, a group or a realm in bytes.
const MaxNameLength = 63

// MaxGroups is the largest number of groups in a certificate.
const MaxGroups = 32

// CheckName reports why name cannot be an anchor's name, or nil. A name is a DNS label in lower
// case (RFC 1123 section 2.1): 1 to 63 letters, digits and hyphens, no hyphen first or last.
// What could be taken for an address or an anchor id is no name, and neither is a number, which
// URL parsers and the C library read as an IPv4 address. The error wraps ErrFormat.
func CheckName(name string) error {
	if err := checkLabel("name", name); err != nil {
		return err
	}
	if isNumber(name) { // all other forms of addresses have a dot or a colon
		return fmt.Errorf("identity: name %q is a number, which many programs take for an IPv4 address: %w", name, ErrFormat)
	}
	if _, err := ParseID(name); err == nil {
		return fmt.Errorf("identity: name %q is an anchor id: %w", name, ErrFormat)
	}
	return nil
}

// checkLabel checks the characters of a name or a group.
func checkLabel(what, s string) error {
	if len(s) == 0 || len(s) > MaxNameLength {
		return fmt.Errorf("identity: %s %.70q has %d characters, want 1 to %d: %w", what, s, len(s), MaxNameLength, ErrFormat)
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return fmt.Errorf("identity: %s %q: only lower-case letters, digits and hyphens are allowed: %w", what, s, ErrFormat)
		}
	}
	if s[0] == '-' || s[len(s)-1] == '-' {
		return fmt.Errorf("identity: %s %q begins or ends with a hyphen: %w", what, s, ErrFormat)
	}
	return nil
}

// isNumber reports whether a URL parser would take s for a decimal, octal or hexadecimal number.
func isNumber(s string) bool {
	digits := "0123456789"
	if rest, ok := strings.CutPrefix(s, "0x"); ok {
		s, digits = rest, "0123456789abcdef"
	}
	return strings.Trim(s, digits) == ""
}

// checkGroups checks that groups are labels in strictly rising order.
func checkGroups(groups []string) error {
	if len(groups) > MaxGroups {
		return fmt.Errorf("identity: %d groups, at most %d allowed: %w", len(groups), MaxGroups, ErrFormat)
	}
	for i, g := range groups {
		if err := checkLabel("group", g); err != nil {
			return err
		}
		if i > 0 && groups[i-1] >= g {
			return fmt.Errorf("identity: group %q is out of order or twice: %w", g, ErrFormat)
		}
	}
	return nil
}

// checkRealmName checks the name of a realm, which is for people only.
func checkRealmName(name string) error {
	if len(name) == 0 || len(name) > MaxNameLength {
		return fmt.Errorf("identity: realm name %.70q has %d bytes, want 1 to %d: %w", name, len(name), MaxNameLength, ErrFormat)
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("identity: realm name %q has characters that cannot be shown: %w", name, ErrFormat)
	}
	return nil
}
