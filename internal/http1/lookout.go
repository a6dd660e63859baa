package http1

import (
	"errors"
	"os"
	"sync/atomic"
	"time"
)

// lookoutAfter is how long a request is worked on before anybody looks whether its client is still there.
const lookoutAfter = 10 * time.Millisecond

// lookout watches for a client that leaves while its request is worked on.
type lookout struct {
	conn    *serverConn
	timer   *time.Timer
	request *requestContext
	over    atomic.Bool   // the request is
	done    chan struct{} // is sent to at the end of run
}

func (l *lookout) begin(request *requestContext) {
	l.request = request
	l.over.Store(false)
	if l.timer == nil {
		l.done = make(chan struct{}, 1)
		l.timer = time.AfterFunc(lookoutAfter, l.run)
		return
	}
	l.timer.Reset(lookoutAfter)
}

func (l *lookout) run() {
	defer func() { l.done <- struct{}{} }()
	_ = l.conn.SetReadDeadline(time.Time{}) // the one for the request has been kept
	if l.over.Load() {                      // in this order: see end
		return
	}
	gone := false
	err := l.conn.socket.Read(func(fd uintptr) bool {
		err := peekAt(fd)
		if isAgain(err) {
			return false
		}
		gone = err != nil
		return true // also if it has sent another request, behind which nothing can be seen
	})
	if gone || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		l.request.cancel()
	}
}

// end returns when nobody looks any more.
func (l *lookout) end() {
	if !l.timer.Stop() {
		l.over.Store(true)
		_ = l.conn.SetReadDeadline(longAgo)
		<-l.done
		_ = l.conn.SetReadDeadline(time.Time{})
		l.conn.timeout = 0
	}
	l.request = nil // an idle connection is to be small
}
