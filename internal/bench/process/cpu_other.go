//go:build !linux

package process

import (
	"errors"
	"time"
)

// CPUTime is only implemented on Linux.
func CPUTime(int) (time.Duration, error) {
	return 0, errors.New("the CPU time of other processes is measured on Linux only; run the benchmark there")
}
