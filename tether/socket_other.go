//go:build !linux && !js

package tether

// allowFragments has nothing to do: only Linux sets DF on UDP sockets by default.
func allowFragments(uintptr) {}
