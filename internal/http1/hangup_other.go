//go:build !linux

package http1

import "errors"

// hangupMonitor is supported on Linux only.
type hangupMonitor struct{}

func newHangupMonitor(func(fd int)) *hangupMonitor { return nil }
func (*hangupMonitor) watch(int) error             { return errors.ErrUnsupported }
func (*hangupMonitor) remove(int)                  {}
func (*hangupMonitor) close()                      {}
