//go:build race

package identity

// raceEnabled says that signatures cost forty times as much.
const raceEnabled = true
