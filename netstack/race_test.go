//go:build race

package netstack

// underRace tells tests that gVisor runs some 15 times slower, and that pools lose items.
const underRace = true
