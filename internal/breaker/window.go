package breaker

import (
	"sync"
	"time"
)

// slotCount bounds a window's memory, and with it how exact its edge is. It is a power of
// two, so that finding a slot is a mask.
const slotCount = 64

// A tally is what a window counts.
type tally struct{ requests, failures, slow uint32 }

func (t *tally) add(o tally) {
	t.requests += o.requests
	t.failures += o.failures
	t.slow += o.slow
}

func (t *tally) sub(o tally) {
	t.requests -= o.requests
	t.failures -= o.failures
	t.slow -= o.slow
}

// A slot holds the calls of at most one width of time, the first of them at began.
type slot struct {
	began time.Duration // since the window's base
	tally
}

// A window counts the calls of the last span of time, in a ring of slots and their running
// sum. A slot leaves as a whole when its first call is span old: no call is counted that
// is span old or older, and every call younger by a width than that is (by some widths
// where the span has grown since). Its zero value counts nothing. It is safe for
// concurrent use.
type window struct {
	mu           sync.Mutex // guards all below; nothing is called and no lock taken under it
	span, width  time.Duration
	base         time.Time
	slots        *[slotCount]slot // nil while nothing is counted
	oldest, used int              // oldest grows for ever; at wraps it
	sum          tally
}

// set makes the window follow p: a shorter one keeps its own last part, a longer one all
// that is there, and without a ratio it keeps nothing, not even its memory.
func (w *window) set(p *Policy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.rolls() {
		w.slots, w.oldest, w.used, w.sum = nil, 0, 0, tally{}
		return
	}
	if w.slots == nil {
		w.slots, w.base = new([slotCount]slot), time.Now()
	}
	now := time.Since(w.base)
	w.expire(now) // what has left stays away, however long the window grows
	w.span = max(p.Window, 1)
	w.width = (w.span-1)/slotCount + 1 // rounded up, so that the slots of a span always fit
	w.expire(now)
	w.merge()
}

// count counts one call and returns what is in the window with it.
func (w *window) count(failed, slow bool) tally {
	t := tally{requests: 1}
	if failed {
		t.failures = 1
	}
	if slow {
		t.slow = 1
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slots == nil {
		return tally{}
	}
	now := time.Since(w.base)
	w.expire(now)
	if w.used == 0 || now-w.at(w.used-1).began >= w.width {
		w.used++
		*w.at(w.used - 1) = slot{began: now}
	}
	w.at(w.used - 1).add(t)
	w.sum.add(t)
	return w.sum
}

// tally returns what is in the window now.
func (w *window) tally() tally {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slots == nil {
		return tally{}
	}
	w.expire(time.Since(w.base))
	return w.sum
}

// at returns the i-th slot in use, from the oldest.
func (w *window) at(i int) *slot { return &w.slots[(w.oldest+i)&(slotCount-1)] }

// expire drops the slots that are too old.
func (w *window) expire(now time.Duration) {
	for w.used > 0 && now-w.at(0).began >= w.span {
		w.sum.sub(w.at(0).tally)
		w.oldest++
		w.used--
	}
}

// merge joins slots that begin within one width, as a longer window has room for no more.
func (w *window) merge() {
	kept := 0
	for i := range w.used {
		s := *w.at(i)
		if kept > 0 && s.began-w.at(kept-1).began < w.width {
			w.at(kept - 1).add(s.tally)
			continue
		}
		*w.at(kept) = s
		kept++
	}
	w.used = kept
}
