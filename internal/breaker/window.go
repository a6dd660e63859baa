package breaker

import (
	"time"

	"cbproxy/internal/events"
)

// slotCount is the number of slots of a window. It bounds the window's memory and determines how exact its start is. It is a
// power of two, so that a slot is found with a mask.
const slotCount = 64

// callCounts are the numbers of calls in a window or in one of its slots. requests are those that were made, rejected the others.
type callCounts struct{ requests, failures, slow, rejected uint32 }

// countsOf returns the counts of one call.
func countsOf(call Observation) callCounts {
	c := callCounts{requests: 1}
	if call.Failed {
		c.failures = 1
	}
	if call.Slow {
		c.slow = 1
	}
	return c
}

// public returns the counts as others see them.
func (c callCounts) public() events.Counts {
	return events.Counts{Requests: c.requests, Successes: c.requests - c.failures, Failures: c.failures, Slow: c.slow}
}

func (c *callCounts) add(o callCounts) {
	c.requests += o.requests
	c.failures += o.failures
	c.slow += o.slow
	c.rejected += o.rejected
}

func (c *callCounts) sub(o callCounts) {
	c.requests -= o.requests
	c.failures -= o.failures
	c.slow -= o.slow
	c.rejected -= o.rejected
}

// slot counts the calls of at most one width of time. The first of them was counted at start.
type slot struct {
	start time.Duration
	callCounts
}

// window counts the calls of the last span of time, in a ring of slots and their running sum. A slot is dropped as a whole when
// its first call is one span old, so each call is dropped at the end of its span or up to one width earlier (up to several
// widths, if the span has grown since). configure must be called first. Times are those of an Algorithm. It is not safe for
// concurrent use.
type window struct {
	span, width  time.Duration
	oldest, used int        // oldest is the number of slots dropped so far; used slots follow it in the ring, see at
	sum          callCounts // as of the last call
	slots        [slotCount]slot
}

// configure sets the span. A shorter window keeps the most recent part of its calls, a longer one all of them.
func (w *window) configure(now, span time.Duration) {
	w.expire(now) // with the old span: a longer one does not bring expired calls back
	w.span = max(span, 1)
	w.width = (w.span-1)/slotCount + 1 // rounded up, so that slotCount slots cover the span
	w.expire(now)
	w.mergeSlots()
}

// count adds c, and makes sum that of now.
func (w *window) count(now time.Duration, c callCounts) {
	w.expire(now)
	if w.used == 0 || now-w.at(w.used-1).start >= w.width {
		w.used++
		*w.at(w.used - 1) = slot{start: now}
	}
	w.at(w.used - 1).add(c)
	w.sum.add(c)
}

// counts returns the window's counts as of now.
func (w *window) counts(now time.Duration) callCounts {
	w.expire(now)
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
