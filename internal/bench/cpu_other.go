//go:build !linux

package main

import (
	"errors"
	"time"
)

// cpuTime is known on Linux only.
func cpuTime(int) (time.Duration, error) {
	return 0, errors.New("the CPU time of other processes is measured on Linux only; run the benchmark there")
}
