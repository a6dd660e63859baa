package response

import (
	"sync/atomic"
	"time"
)

// ClientWait measures for how long a response waits for its client to take what has been read of it. Times are relative to one moment
// before. It is safe for concurrent use, except Reset.
type ClientWait struct {
	enabled bool
	since   atomic.Int64 // when the wait that is under way began, in nanoseconds; 0: there is none
	total   atomic.Int64 // nanoseconds of completed waits
}

// Reset makes the wait zero, and enables or disables the measurement.
func (w *ClientWait) Reset(enabled bool) {
	w.enabled = enabled
	w.since.Store(0)
	w.total.Store(0)
}

// Set records that the response waits for the client from now on, or no longer. epoch is the moment to which times are relative.
func (w *ClientWait) Set(waiting bool, epoch time.Time) {
	if !w.enabled {
		return
	}
	now := int64(time.Since(epoch))
	if since := w.since.Swap(0); since != 0 {
		w.total.Add(now - since)
	}
	if waiting {
		w.since.Store(now)
	}
}

// Total returns the time spent on waiting until now, 0 if it is not measured.
func (w *ClientWait) Total(now time.Duration) time.Duration {
	waited := time.Duration(w.total.Load())
	if since := w.since.Load(); since != 0 {
		waited += max(now-time.Duration(since), 0)
	}
	return waited
}
