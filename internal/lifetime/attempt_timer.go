package lifetime

import (
	"sync"
	"time"

	"cbproxy/internal/upstream"
)

// AttemptTimer limits the time for which one attempt waits for the upstream. The zero AttemptTimer has no limit. It is safe for concurrent
// use.
type AttemptTimer struct {
	limit   time.Duration
	waited  func() time.Duration
	expired func(paused bool)

	mu            sync.Mutex    // held while expired runs; guards the fields below
	timer         *time.Timer   // nil: Start has not been called
	pausedAtStart time.Duration // upstream.Paused at the start
	extended      bool          // because the process was paused
	stopped       bool
}

// Start makes expired be called once, on a goroutine of its own, when waited returns limit or more: the time for which the attempt has
// waited for the upstream, and not for the client. paused means that the process has been paused meanwhile. Both functions must be safe
// for concurrent use.
func (t *AttemptTimer) Start(limit time.Duration, waited func() time.Duration, expired func(paused bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit, t.waited, t.expired = limit, waited, expired
	t.pausedAtStart = upstream.Paused()
	t.timer = time.AfterFunc(limit, t.check)
}

// Stop prevents that expired is called, and waits for it if it is running.
func (t *AttemptTimer) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.timer != nil {
		t.timer.Stop()
	}
}

// shortestCheck is the shortest time between two checks while the client is slow.
const shortestCheck = 10 * time.Millisecond

// check is called when the time may be over.
func (t *AttemptTimer) check() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	if rest := t.limit - t.waited(); rest > 0 { // the client was slow
		t.timer.Reset(max(rest, shortestCheck))
		return
	}
	paused := upstream.Paused() > t.pausedAtStart
	if paused && !t.extended {
		t.extended = true
		t.timer.Reset(pauseExtension)
		return
	}
	t.stopped = true
	t.expired(paused)
}
