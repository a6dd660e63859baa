package breaker

import (
	"time"

	"cbproxy/internal/events"
)

// detailedWindow is a window that also counts failures by type and, if it is asked to, durations. configure must be called first. It
// is not safe for concurrent use.
type detailedWindow struct {
	window
	types     [slotCount]failureTypes // of the slots of window, by their place in its ring; zero for those that are not in use
	typesSum  failureTypes
	durations *durations // nil: durations are not counted
}

// failureTypes are numbers of failures.
type failureTypes struct{ connects, timeouts, resets, statuses uint32 }

func (t *failureTypes) add(o failureTypes) {
	t.connects += o.connects
	t.timeouts += o.timeouts
	t.resets += o.resets
	t.statuses += o.statuses
}

func (t *failureTypes) sub(o failureTypes) {
	t.connects -= o.connects
	t.timeouts -= o.timeouts
	t.resets -= o.resets
	t.statuses -= o.statuses
}

// failureTypesOf returns the counts of one failure.
func failureTypesOf(kind events.ErrorType) (t failureTypes) {
	switch kind {
	case events.ErrorConnect:
		t.connects = 1
	case events.ErrorTimeout:
		t.timeouts = 1
	case events.ErrorReset:
		t.resets = 1
	case events.ErrorStatus:
		t.statuses = 1
	}
	return t
}

// durations are the durations of the calls in a window: 47 KiB.
type durations struct {
	slots [slotCount]histogram // as detailedWindow.types
	sum   histogram
	calls uint32 // in sum
	used  [slotCount]uint32
}

// configure sets the span, and whether durations are counted. Durations are those of the calls since they began to be counted.
func (w *detailedWindow) configure(now, span time.Duration, countDurations bool) {
	switch {
	case !countDurations:
		w.durations = nil
	case w.durations == nil:
		w.durations = new(durations)
	}
	var starts [slotCount]time.Duration // of the slots in use
	oldest, used := w.oldest, w.used
	for i := range used {
		starts[i] = w.at(i).start
	}
	w.window.configure(now, span)
	w.clearDropped(oldest)
	// Slots may have been merged. Each one has the details of the old slots from its start on, up to the start of the next one.
	to := 0
	for i := w.oldest - oldest; i < used; i++ {
		if to+1 < w.used && starts[i] == w.at(to+1).start {
			to++
		}
		w.move((oldest+i)&(slotCount-1), (w.oldest+to)&(slotCount-1))
	}
}

// count counts a call.
func (w *detailedWindow) count(now time.Duration, call Observation) {
	oldest := w.oldest
	w.window.count(now, countsOf(call))
	w.clearDropped(oldest)
	slot := (w.oldest + w.used - 1) & (slotCount - 1)
	if call.Failed {
		t := failureTypesOf(call.Type)
		w.types[slot].add(t)
		w.typesSum.add(t)
	}
	if d := w.durations; d != nil {
		bucket := bucketOf(call.Duration)
		d.slots[slot][bucket]++
		d.sum[bucket]++
		d.used[slot]++
		d.calls++
	}
}

// counts returns the window's counts as of now.
func (w *detailedWindow) counts(now time.Duration) callCounts {
	oldest := w.oldest
	c := w.window.counts(now)
	w.clearDropped(oldest)
	return c
}

// clearDropped removes the details of the slots that the window has dropped since its oldest slot was oldest.
func (w *detailedWindow) clearDropped(oldest int) {
	for i := oldest; i < w.oldest; i++ {
		slot := i & (slotCount - 1)
		w.typesSum.sub(w.types[slot])
		w.types[slot] = failureTypes{}
		if d := w.durations; d != nil && d.used[slot] > 0 {
			d.sum.sub(&d.slots[slot])
			d.calls -= d.used[slot]
			d.slots[slot], d.used[slot] = histogram{}, 0
		}
	}
}

// move adds the details of one slot to another one, and removes them from the first.
func (w *detailedWindow) move(from, to int) {
	if from == to {
		return
	}
	w.types[to].add(w.types[from])
	w.types[from] = failureTypes{}
	if d := w.durations; d != nil && d.used[from] > 0 {
		d.slots[to].add(&d.slots[from])
		d.used[to] += d.used[from]
		d.slots[from], d.used[from] = histogram{}, 0
	}
}
