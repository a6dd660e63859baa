package breaker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// listed is one call in the reference window. The ring may have put it into a slot with calls up to
// coarse older, so it may expire that much too early, but never too late.
type listed struct {
	at     time.Time
	counts callCounts
	coarse time.Duration
	width  time.Duration // the widest slot it has been in
	maybe  bool          // it may have expired in the ring already
}

// list is the reference window: a list of calls.
type list struct {
	span  time.Duration
	calls []listed
}

func (l *list) expire() {
	l.calls = slices.DeleteFunc(l.calls, func(c listed) bool { return time.Since(c.at) >= l.span })
	for i := range l.calls {
		c := &l.calls[i]
		c.maybe = c.maybe || time.Since(c.at) >= l.span-c.coarse
	}
}

func (l *list) setSpan(span time.Duration) {
	l.expire()
	l.span = span
	for i := range l.calls {
		if width := span/slotCount + 1; width > l.calls[i].width {
			l.calls[i].width = width
			l.calls[i].coarse += width // its slot may have been merged with others
		}
	}
	l.expire()
}

func (l *list) count(c callCounts) {
	l.expire()
	width := l.span/slotCount + 1
	l.calls = append(l.calls, listed{at: time.Now(), counts: c, coarse: width, width: width})
}

// bounds returns the lowest and the highest counts that the window may have.
func (l *list) bounds() (least, most callCounts) {
	for _, c := range l.calls {
		most.add(c.counts)
		if !c.maybe {
			least.add(c.counts)
		}
	}
	return least, most
}

func within(low, c, high callCounts) bool {
	return low.requests <= c.requests && c.requests <= high.requests &&
		low.failures <= c.failures && c.failures <= high.failures &&
		low.slow <= c.slow && c.slow <= high.slow
}

func TestWindowMatchesAListOfCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) {
			spans := rapid.OneOf(
				rapid.Int64Range(1, 200), // with slots of a few nanoseconds
				rapid.Int64Range(int64(time.Millisecond), int64(time.Minute)),
			)
			follow := func(w *window, l *list, span time.Duration) {
				w.configure(&Policy{FailureRatio: 1, Window: span})
				l.setSpan(span)
			}
			w, l := new(window), new(list)
			follow(w, l, time.Duration(spans.Draw(t, "span")))
			t.Repeat(map[string]func(*rapid.T){
				"count": func(t *rapid.T) {
					c := callCounts{requests: 1}
					failed, slow := rapid.Bool().Draw(t, "failed"), rapid.Bool().Draw(t, "slow")
					if failed {
						c.failures = 1
					}
					if slow {
						c.slow = 1
					}
					for range rapid.IntRange(1, 100).Draw(t, "calls") {
						l.count(c)
						got := w.count(failed, slow)
						if least, most := l.bounds(); !within(least, got, most) {
							t.Fatalf("the window has %+v, the list %+v to %+v", got, least, most)
						}
						time.Sleep(l.span / 150)
					}
				},
				"wait": func(t *rapid.T) {
					time.Sleep(time.Duration(rapid.Float64Range(0, 1.2).Draw(t, "spans") * float64(l.span)))
				},
				"span": func(t *rapid.T) { follow(w, l, time.Duration(spans.Draw(t, "span"))) },
				"factor": func(t *rapid.T) {
					f := rapid.Float64Range(0.3, 3).Draw(t, "factor")
					follow(w, l, max(time.Duration(f*float64(l.span)), 1))
				},
				"off": func(t *rapid.T) {
					w.configure(&Policy{Window: l.span})
					if got := w.count(true, true); got != (callCounts{}) {
						t.Fatalf("a window that is off counted %+v", got)
					}
					l.calls = nil
					follow(w, l, l.span)
				},
				"": func(t *rapid.T) {
					var sum callCounts
					for i := range w.used {
						sum.add(w.at(i).callCounts)
					}
					if sum != w.sum {
						t.Fatalf("the slots add up to %+v, the running sum is %+v", sum, w.sum)
					}
					if w.used > slotCount {
						t.Fatalf("%d slots are in use", w.used)
					}
				},
			})
		})
	})
}

// A call expires when its age equals the span of the window.
func TestWindowEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w window
		w.configure(&Policy{FailureRatio: 1, Window: 30 * time.Second})
		w.count(true, true)
		time.Sleep(30*time.Second - time.Nanosecond)
		if got, want := w.count(false, false), (callCounts{2, 1, 1}); got != want {
			t.Errorf("a nanosecond before the edge: %+v, want %+v", got, want)
		}
		time.Sleep(time.Nanosecond)
		if got, want := w.count(false, false), (callCounts{2, 0, 0}); got != want {
			t.Errorf("at the edge: %+v, want %+v", got, want)
		}
	})
}

// There are enough slots for evenly distributed calls.
func TestWindowHasEnoughSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, span := range []time.Duration{1, 2, 63, 64, 65, 100, 127, 128, 129, time.Second, time.Second + 1} {
			var w window
			w.configure(&Policy{FailureRatio: 1, Window: span})
			for range 500 {
				w.count(true, false)
				time.Sleep(w.width)
			}
			got, want := w.count(true, false), uint32((span-1)/w.width+1)
			if got.requests != want || w.used > slotCount {
				t.Errorf("a span of %d ns holds %d calls in %d slots, want %d", span, got.requests, w.used, want)
			}
		}
	})
}
