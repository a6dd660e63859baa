//go:build !unix

package http1

import (
	"errors"
	"net"
	"syscall"
)

// rawConn returns nil: direct access to descriptors is not supported on this system.
func rawConn(net.Conn) (raw syscall.RawConn, direct bool) { return nil, false }

func writeTo(uintptr, []byte) (int, error)  { return 0, errors.ErrUnsupported }
func readFrom(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
func peekAt(uintptr) error                  { return errors.ErrUnsupported }
func shutdown(uintptr)                      {}
func isAgain(error) bool                    { return false }
