//go:build race

package stream

// raceEnabled says that the race detector is on: it is slow, and makes sync.Pool forget.
const raceEnabled = true
