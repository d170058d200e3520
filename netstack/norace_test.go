//go:build !race

package netstack

const underRace = false
