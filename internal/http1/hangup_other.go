//go:build !linux

package http1

import "errors"

// lookout is what only Linux has.
type lookout struct{}

func newLookout(func(fd int)) *lookout { return nil }
func (*lookout) watch(int) error       { return errors.ErrUnsupported }
func (*lookout) forget(int)            {}
func (*lookout) close()                {}
