//go:build !linux

package process

// RaiseFileLimit is only implemented on Linux.
func RaiseFileLimit(int) int { return 0 }
