package breaker

import (
	"sync"
	"time"
)

// slotCount is the number of slots of a window. It bounds the window's memory and determines how exact its start is. It is a
// power of two, so that a slot is found with a mask.
const slotCount = 64

// callCounts are the numbers of calls in a window or in one of its slots.
type callCounts struct{ requests, failures, slow uint32 }

func (c *callCounts) add(o callCounts) {
	c.requests += o.requests
	c.failures += o.failures
	c.slow += o.slow
}

func (c *callCounts) sub(o callCounts) {
	c.requests -= o.requests
	c.failures -= o.failures
	c.slow -= o.slow
}

// slot counts the calls of at most one width of time. The first of them was counted at start.
type slot struct {
	start time.Duration // since the window's base
	callCounts
}

// window counts the calls of the last span of time, in a ring of slots and their running sum. A slot is dropped as a whole when
// its first call is one span old, so each call is dropped at the end of its span or up to one width earlier (up to several
// widths, if the span has grown since). The zero value counts nothing. It is safe for concurrent use.
type window struct {
	mu           sync.Mutex // guards the fields below; nothing is called and no lock taken while it is held
	span, width  time.Duration
	base         time.Time
	slots        *[slotCount]slot // nil while nothing is counted
	oldest, used int              // oldest is the number of slots dropped so far; used slots follow it in the ring, see at
	sum          callCounts
}

// configure applies p to the window. A shorter window keeps the most recent part of its calls, a longer one all of them. Without a
// ratio the window counts nothing and releases its memory.
func (w *window) configure(p *Policy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.usesWindow() {
		w.slots, w.oldest, w.used, w.sum = nil, 0, 0, callCounts{}
		return
	}
	if w.slots == nil {
		w.slots, w.base = new([slotCount]slot), time.Now()
	}
	now := time.Since(w.base)
	w.expire(now) // with the old span: a longer one does not bring expired calls back
	w.span = max(p.Window, 1)
	w.width = (w.span-1)/slotCount + 1 // rounded up, so that slotCount slots cover the span
	w.expire(now)
	w.mergeSlots()
}

// count counts one call and returns the window's counts, including that call.
func (w *window) count(failed, slow bool) callCounts {
	c := callCounts{requests: 1}
	if failed {
		c.failures = 1
	}
	if slow {
		c.slow = 1
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slots == nil {
		return callCounts{}
	}
	now := time.Since(w.base)
	w.expire(now)
	if w.used == 0 || now-w.at(w.used-1).start >= w.width {
		w.used++
		*w.at(w.used - 1) = slot{start: now}
	}
	w.at(w.used - 1).add(c)
	w.sum.add(c)
	return w.sum
}

// counts returns the window's counts as of now.
func (w *window) counts() callCounts {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slots == nil {
		return callCounts{}
	}
	w.expire(time.Since(w.base))
	return w.sum
}

// at returns the i-th slot in use, counted from the oldest.
func (w *window) at(i int) *slot { return &w.slots[(w.oldest+i)&(slotCount-1)] }

// expire drops the slots that are one span old or older.
func (w *window) expire(now time.Duration) {
	for w.used > 0 && now-w.at(0).start >= w.span {
		w.sum.sub(w.at(0).callCounts)
		w.oldest++
		w.used--
	}
}

// mergeSlots merges slots that start within one width, because there are only slotCount of them for a longer window.
func (w *window) mergeSlots() {
	kept := 0
	for i := range w.used {
		s := *w.at(i)
		if kept > 0 && s.start-w.at(kept-1).start < w.width {
			w.at(kept - 1).add(s.callCounts)
			continue
		}
		*w.at(kept) = s
		kept++
	}
	w.used = kept
}
