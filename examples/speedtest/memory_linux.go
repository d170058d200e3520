package main

import (
	"fmt"
	"os"
)

// residentMB is the resident memory of the process in 10^6 bytes; 0 if the system does not
// tell.
func residentMB() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident float64 // pages
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0
	}
	return resident * float64(os.Getpagesize()) / 1e6
}
