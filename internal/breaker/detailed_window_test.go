package breaker

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
)

// checkDetails checks that the details of a window are those of its slots and that their sums are right. All failures were of type
// status. durationsSince is the number of slots in use for which durations were counted, from the newest on.
func checkDetails(t *rapid.T, w *detailedWindow) {
	var types failureTypes
	var sum histogram
	calls := uint32(0)
	for i := range slotCount {
		s, slot := w.at(i), (w.oldest+i)&(slotCount-1)
		want := failureTypes{}
		if i < w.used {
			want.statuses = s.failures
		}
		if w.types[slot] != want {
			t.Fatalf("slot %d of %d has %+v, want %+v", i, w.used, w.types[slot], want)
		}
		types.add(w.types[slot])
		d := w.durations
		if d == nil {
			continue
		}
		n := uint32(0)
		for _, c := range d.slots[slot] {
			n += c
		}
		if n != d.used[slot] || i >= w.used && n != 0 || n > s.requests {
			t.Fatalf("slot %d of %d has %d calls and %d durations in %d calls", i, w.used, s.requests, n, d.used[slot])
		}
		sum.add(&d.slots[slot])
		calls += n
	}
	if types != w.typesSum {
		t.Fatalf("the sum of types is %+v, want %+v", w.typesSum, types)
	}
	if d := w.durations; d != nil && (d.sum != sum || d.calls != calls) {
		t.Fatalf("the sum has %d calls, want %d", d.calls, calls)
	}
}

// The details follow the slots of the window, also when slots are dropped or merged.
func TestDetailsFollowTheWindow(t *testing.T) {
	spans := rapid.OneOf(rapid.Int64Range(1, 200), rapid.Int64Range(1, 10_000))
	rapid.Check(t, func(t *rapid.T) {
		var w detailedWindow
		now := time.Duration(0)
		w.configure(now, time.Duration(spans.Draw(t, "span")), true)
		counted := true // durations, of every call in the window
		t.Repeat(map[string]func(*rapid.T){
			"calls": func(t *rapid.T) {
				for range rapid.IntRange(1, 100).Draw(t, "calls") {
					now += time.Duration(rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(0, 500)).Draw(t, "pause"))
					w.count(now, Observation{
						Failed: rapid.Bool().Draw(t, "failed"), Type: events.ErrorStatus, Duration: time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "took")),
					})
				}
			},
			"configure": func(t *rapid.T) {
				durations := rapid.Bool().Draw(t, "durations")
				now += time.Duration(rapid.Int64Range(0, 20).Draw(t, "pause"))
				w.configure(now, time.Duration(spans.Draw(t, "span")), durations)
				counted = counted && durations || w.used == 0 && durations
			},
			"wait": func(t *rapid.T) {
				now += time.Duration(spans.Draw(t, "wait"))
				w.counts(now)
			},
			"": func(t *rapid.T) {
				checkDetails(t, &w)
				if w.typesSum.statuses != w.sum.failures || counted && w.durations != nil && w.durations.calls != w.sum.requests {
					t.Fatalf("%+v, %+v", w.typesSum, w.sum)
				}
			},
		})
	})
}

func TestFailuresAreCountedByType(t *testing.T) {
	var w detailedWindow
	w.configure(0, time.Minute, false)
	for _, kind := range events.ErrorTypes {
		w.count(0, Observation{Failed: true, Type: kind})
	}
	w.count(0, Observation{Type: events.ErrorReset}) // a success
	if want := (failureTypes{1, 1, 1, 1}); w.typesSum != want || w.durations != nil {
		t.Errorf("got %+v, want %+v", w.typesSum, want)
	}
}
