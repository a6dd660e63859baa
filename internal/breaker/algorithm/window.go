package algorithm

import "time"

// slotCount is the number of slots of a window. It bounds the window's memory and determines how exact its start is. It is a
// power of two, so that a slot is found with a mask.
const slotCount = 64

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
	durations    *durations // of the calls in slots; nil: durations are not counted
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

// countDurations begins or ends to count the durations of calls.
func (w *window) countDurations(on bool) {
	switch {
	case !on:
		w.durations = nil
	case w.durations == nil:
		w.durations = new(durations)
	}
}

// countDuration adds the duration of the call that was counted last, if durations are counted.
func (w *window) countDuration(d time.Duration) {
	if w.durations != nil {
		w.durations.add(w.place(w.used-1), d)
	}
}

// place returns the index in slots of the i-th slot in use, counted from the oldest.
func (w *window) place(i int) int { return (w.oldest + i) & (slotCount - 1) }

// at returns the i-th slot in use.
func (w *window) at(i int) *slot { return &w.slots[w.place(i)] }

// expire drops the slots that are one span old or older.
func (w *window) expire(now time.Duration) {
	for w.used > 0 && now-w.at(0).start >= w.span {
		w.sum.sub(w.at(0).callCounts)
		if w.durations != nil {
			w.durations.drop(w.place(0))
		}
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
			w.moveDurations(i, kept-1)
			continue
		}
		*w.at(kept) = s
		w.moveDurations(i, kept)
		kept++
	}
	w.used = kept
}

// moveDurations adds the durations of the i-th slot in use to those of another one, and removes them from it.
func (w *window) moveDurations(i, to int) {
	if w.durations != nil && i != to {
		w.durations.move(w.place(i), w.place(to))
	}
}
