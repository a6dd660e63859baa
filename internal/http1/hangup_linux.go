package http1

import (
	"cmp"
	"errors"
	"os"
	"syscall"
	"time"
)

// hangupMonitor detects clients that close their side of a connection, or all of it, while a request is being served. It has
// its own epoll instance, because Go's poller reports the end of a connection only to a goroutine that reads from it.
type hangupMonitor struct {
	epoll *os.File        // nil: the system provided none, or none that Go's poller can wait for
	raw   syscall.RawConn // of epoll
}

// newHangupMonitor returns a monitor that calls hungUp, on a single goroutine, with the descriptor of each watched
// connection whose peer has closed at least its own side.
func newHangupMonitor(hungUp func(fd int)) *hangupMonitor {
	m := new(hangupMonitor)
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return m
	}
	_ = syscall.SetNonblock(fd, true)                           // needed for Go's poller; can't fail
	epoll := os.NewFile(uintptr(fd), "epoll of hangup monitor") // #nosec G115 -- a descriptor
	if epoll.SetDeadline(time.Time{}) != nil {                  // Go's poller does not support it
		_ = epoll.Close()
		return m
	}
	m.epoll = epoll
	m.raw, _ = epoll.SyscallConn() // fails only on a closed file
	go m.run(hungUp)
	return m
}

// run waits for events until m is closed.
func (m *hangupMonitor) run(hungUp func(fd int)) {
	var events [64]syscall.EpollEvent
	_ = m.raw.Read(func(fd uintptr) bool {
		for {
			n, err := syscall.EpollWait(int(fd), events[:], 0) // #nosec G115 -- a descriptor
			if n <= 0 && err != syscall.EINTR {
				return false
			}
			for _, e := range events[:max(n, 0)] {
				hungUp(int(e.Fd))
			}
		}
	})
}

// watch watches fd until it is closed or removed.
func (m *hangupMonitor) watch(fd int) error {
	return m.control(syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLRDHUP | 1<<31, Fd: int32(fd)}) // #nosec G115 -- a descriptor
}

// remove stops watching fd.
func (m *hangupMonitor) remove(fd int) { _ = m.control(syscall.EPOLL_CTL_DEL, fd, nil) } // fails if fd is closed

func (m *hangupMonitor) control(operation, fd int, e *syscall.EpollEvent) error {
	if m.epoll == nil {
		return errors.ErrUnsupported
	}
	var err error
	closed := m.raw.Control(func(epoll uintptr) { err = syscall.EpollCtl(int(epoll), operation, fd, e) }) // #nosec G115 -- a descriptor
	return cmp.Or(closed, err)
}

// close stops the monitor and waits for a running call of hungUp. It may be called more than once.
func (m *hangupMonitor) close() { _ = m.epoll.Close() }
