//go:build !linux

package main

import "runtime"

// residentMB is what the Go runtime holds of the system's memory in 10^6 bytes: near the
// resident memory of a process without C code.
func residentMB() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.Sys-m.HeapReleased) / 1e6
}
