package queue

import (
	"log/slog"
	"sync"
	"time"
)

// refusals tells the log that requests can't be queued, but not of each: there may be thousands a
// second. Safe for concurrent use.
type refusals struct {
	mu      sync.Mutex // guards what follows
	told    time.Time
	omitted int
}

const refusalsEvery = 10 * time.Second

func (r *refusals) tell(logger *slog.Logger, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.told.IsZero() && time.Since(r.told) < refusalsEvery {
		r.omitted++
		return
	}
	logger.Error("a request can't be queued, and gets the next fallback", "error", err, "omitted", r.omitted)
	r.told, r.omitted = time.Now(), 0
}
