//go:build !race

package testenv

// RaceDetector is whether the race detector is enabled.
const RaceDetector = false
