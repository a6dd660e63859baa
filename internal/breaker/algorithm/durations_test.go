package algorithm

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
)

// checkDurations checks that the durations of a window are in the slots of their calls and that their sum is right.
func checkDurations(t *rapid.T, w *window) {
	var sum histogram
	calls := uint32(0)
	for i := range slotCount {
		s, slot := w.at(i), w.place(i)
		n := uint32(0)
		for _, c := range w.durations.slots[slot] {
			n += c
		}
		if n != w.durations.used[slot] || i >= w.used && n != 0 || n > s.requests {
			t.Fatalf("slot %d of %d has %d calls and %d durations in %d calls", i, w.used, s.requests, n, w.durations.used[slot])
		}
		sum.add(&w.durations.slots[slot])
		calls += n
	}
	if w.durations.sum != sum || w.durations.calls != calls {
		t.Fatalf("the sum has %d calls, want %d", w.durations.calls, calls)
	}
}

// The durations follow the slots of the window, also when slots are dropped or merged.
func TestDurationsFollowTheWindow(t *testing.T) {
	spans := rapid.OneOf(rapid.Int64Range(1, 200), rapid.Int64Range(1, 10_000))
	rapid.Check(t, func(t *rapid.T) {
		var w window
		now := time.Duration(0)
		w.configure(now, time.Duration(spans.Draw(t, "span")))
		w.countDurations(true)
		complete := true // the durations of all calls in the window are counted
		t.Repeat(map[string]func(*rapid.T){
			"calls": func(t *rapid.T) {
				for range rapid.IntRange(1, 100).Draw(t, "calls") {
					now += time.Duration(rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(0, 500)).Draw(t, "pause"))
					w.count(now, callCounts{requests: 1})
					w.countDuration(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "took")))
				}
			},
			"configure": func(t *rapid.T) {
				on := rapid.Bool().Draw(t, "durations")
				now += time.Duration(rapid.Int64Range(0, 20).Draw(t, "pause"))
				w.configure(now, time.Duration(spans.Draw(t, "span")))
				w.countDurations(on)
				complete = on && (complete || w.used == 0)
			},
			"wait": func(t *rapid.T) {
				now += time.Duration(spans.Draw(t, "wait"))
				w.counts(now)
			},
			"": func(t *rapid.T) {
				if w.durations == nil {
					return
				}
				if checkDurations(t, &w); complete && w.durations.calls != w.sum.requests {
					t.Fatalf("%d durations of %d calls", w.durations.calls, w.sum.requests)
				}
			},
		})
	})
}

func TestFailuresAreCountedByType(t *testing.T) {
	var w window
	w.configure(0, time.Minute)
	for _, kind := range events.ErrorTypes {
		w.count(0, countsOf(Observation{Failed: true, Type: kind}))
	}
	w.count(0, countsOf(Observation{Type: events.ErrorReset})) // a success
	n := uint32(len(events.ErrorTypes))
	want := callCounts{requests: n + 1, failures: n, connects: 1, timeouts: 1, resets: 1, statuses: 1}
	if w.sum != want {
		t.Errorf("got %+v, want %+v", w.sum, want)
	}
}
