package http1

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lookoutEvery is how often the requests that are worked on are gone through.
	lookoutEvery = 25 * time.Millisecond
	// lookoutRarely is the largest number of rounds between two looks at one client.
	lookoutRarely = 12
)

// lookout watches for clients that leave while their requests are worked on, on all connections of a Server, and for those that
// had left when they were answered. It asks the kernel: a goroutine that waits for each of them would cost more than
// the request, where many take long.
type lookout struct {
	conns func(do func(*serverConn)) // goes through the connections
	awake atomic.Bool                // there will be a round

	mu    sync.Mutex // held by a round
	watch []watched  // whom the round looks at; empty between rounds
}

type watched struct {
	conn    *serverConn
	request *requestContext // nil: it has been answered
}

// begin is called once a request is the current one of its connection.
func (l *lookout) begin() {
	if !l.awake.Load() && l.awake.CompareAndSwap(false, true) {
		time.AfterFunc(lookoutEvery, l.round)
	}
}

// round looks at the clients whose turn it is: those of requests that have seen 2 or 5 rounds, and of old ones after every
// lookoutRarely. Those that have been answered since the last round are looked at once.
func (l *lookout) round() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awake.Store(false) // first, so that a request which is not seen below calls for another round
	busy := false
	l.conns(func(c *serverConn) {
		request := c.current.Load()
		if request == nil {
			if served := c.served.Load(); served != c.seen {
				c.seen = served
				l.watch = append(l.watch, watched{conn: c})
			}
			return
		}
		busy = true
		request.rounds++
		if n := request.rounds; n == 2 || n == 5 || n%lookoutRarely == 0 {
			l.watch = append(l.watch, watched{c, request})
		}
	})
	for _, w := range l.watch {
		switch {
		case !w.conn.isLeft():
		case w.request != nil:
			w.request.cancel() // which does nothing if it is over
		default:
			w.conn.endIdle()
		}
	}
	clear(l.watch)
	l.watch = l.watch[:0]
	if busy {
		l.begin()
	}
}
