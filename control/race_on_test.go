//go:build race

package control

// Race says that the race detector is on, which makes cryptography five times slower.
const Race = true
