package http1

import (
	"cmp"
	"errors"
	"os"
	"syscall"
	"time"
)

// lookout hears of clients that will say no more, or have left, while their requests are worked on. It has an epoll instance of its
// own, as Go's poller tells of an end only whoever reads.
type lookout struct {
	epoll *os.File        // nil: the system gave none, or none that can be waited for
	raw   syscall.RawConn // epoll's
}

// newLookout has told called, by one goroutine, with the descriptor of each connection that its peer has ended, at least for
// its own side.
func newLookout(told func(fd int)) *lookout {
	l := new(lookout)
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return l
	}
	_ = syscall.SetNonblock(fd, true)                    // can't fail; so that Go's poller waits for it
	epoll := os.NewFile(uintptr(fd), "epoll of lookout") // #nosec G115 -- a descriptor
	if epoll.SetDeadline(time.Time{}) != nil {           // it won't
		_ = epoll.Close()
		return l
	}
	l.epoll = epoll
	l.raw, _ = epoll.SyscallConn() // can't fail, as it is open
	go l.listen(told)
	return l
}

// listen ends when l is closed.
func (l *lookout) listen(told func(fd int)) {
	var events [64]syscall.EpollEvent
	_ = l.raw.Read(func(fd uintptr) bool {
		for {
			n, err := syscall.EpollWait(int(fd), events[:], 0) // #nosec G115 -- a descriptor
			if n <= 0 && err != syscall.EINTR {
				return false
			}
			for _, e := range events[:max(n, 0)] {
				told(int(e.Fd))
			}
		}
	})
}

// watch has l tell of fd's end, until fd is closed.
func (l *lookout) watch(fd int) error {
	return l.control(syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLRDHUP | 1<<31, Fd: int32(fd)}) // #nosec G115 -- a descriptor
}

// forget has l tell nothing more of fd.
func (l *lookout) forget(fd int) { _ = l.control(syscall.EPOLL_CTL_DEL, fd, nil) } // it may be closed

func (l *lookout) control(operation, fd int, e *syscall.EpollEvent) error {
	if l.epoll == nil {
		return errors.ErrUnsupported
	}
	var err error
	closed := l.raw.Control(func(epoll uintptr) { err = syscall.EpollCtl(int(epoll), operation, fd, e) }) // #nosec G115 -- a descriptor
	return cmp.Or(closed, err)
}

// close waits until nobody is being told, and may be called more than once.
func (l *lookout) close() { _ = l.epoll.Close() }
