package algorithm

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
			base := time.Now()
			follow := func(w *window, l *list, span time.Duration) {
				w.configure(time.Since(base), span)
				l.setSpan(span)
			}
			w, l := new(window), new(list)
			follow(w, l, time.Duration(spans.Draw(t, "span")))
			t.Repeat(map[string]func(*rapid.T){
				"count": func(t *rapid.T) {
					c := countsOf(Observation{Failed: rapid.Bool().Draw(t, "failed"), Slow: rapid.Bool().Draw(t, "slow")})
					for range rapid.IntRange(1, 100).Draw(t, "calls") {
						l.count(c)
						w.count(time.Since(base), c)
						if least, most := l.bounds(); !within(least, w.sum, most) {
							t.Fatalf("the window has %+v, the list %+v to %+v", w.sum, least, most)
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
	const span = 30 * time.Second
	var w window
	w.configure(0, span)
	w.count(0, callCounts{requests: 1, failures: 1, slow: 1})
	w.count(span-1, callCounts{requests: 1})
	if want := (callCounts{requests: 2, failures: 1, slow: 1}); w.sum != want {
		t.Errorf("a nanosecond before the edge: %+v, want %+v", w.sum, want)
	}
	w.count(span, callCounts{requests: 1})
	if want := (callCounts{requests: 2}); w.sum != want {
		t.Errorf("at the edge: %+v, want %+v", w.sum, want)
	}
}

// There are enough slots for evenly distributed calls.
func TestWindowHasEnoughSlots(t *testing.T) {
	for _, span := range []time.Duration{1, 2, 63, 64, 65, 100, 127, 128, 129, time.Second, time.Second + 1} {
		var w window
		w.configure(0, span)
		now := time.Duration(0)
		for range 500 {
			w.count(now, callCounts{requests: 1})
			now += w.width
		}
		w.count(now, callCounts{requests: 1})
		if want := uint32((span-1)/w.width + 1); w.sum.requests != want || w.used > slotCount {
			t.Errorf("a span of %d ns holds %d calls in %d slots, want %d", span, w.sum.requests, w.used, want)
		}
	}
}
