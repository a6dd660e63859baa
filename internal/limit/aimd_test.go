package limit

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// aimdScript calls an AIMD at simulated times.
type aimdScript struct {
	AIMD
	now time.Time
}

func newScript() *aimdScript { return &aimdScript{now: time.Unix(1e9, 0)} }

// answer reports n answers that took as long, each 10ms after the previous one, with so many calls in flight.
func (s *aimdScript) answer(n int, took time.Duration, inFlight int64) {
	for range n {
		s.now = s.now.Add(10 * time.Millisecond)
		s.Answered(took, s.now, inFlight)
	}
}

// overload reports n overloads, of which each call began so long before.
func (s *aimdScript) overload(n int, ago time.Duration) {
	for range n {
		s.now = s.now.Add(time.Microsecond)
		s.Overloaded(s.now.Add(-ago), s.now)
	}
}

func (s *aimdScript) wait(d time.Duration) { s.now = s.now.Add(d) }

func TestAIMDGrowsAndShrinks(t *testing.T) {
	const usual = 100 * time.Millisecond
	for name, tt := range map[string]struct {
		script func(*aimdScript)
		want   int64
	}{
		"at first":                  {func(*aimdScript) {}, 10},
		"unused":                    {func(s *aimdScript) { s.answer(1000, usual, 5) }, 10},
		"more than half is used":    {func(s *aimdScript) { s.answer(1, usual, 6) }, 11},
		"grows by one an answer":    {func(s *aimdScript) { s.answer(30, usual, 200) }, 40},
		"no further than the most":  {func(s *aimdScript) { s.answer(1000, usual, 200) }, 200},
		"shrinks by a tenth":        {func(s *aimdScript) { s.overload(1, 0) }, 9},
		"calls after the shrinking": {func(s *aimdScript) { s.overload(2, 0) }, 8}, // 8.1
		"one round that times out":  {func(s *aimdScript) { s.overload(20, time.Second) }, 9},
		"the next round":            {func(s *aimdScript) { s.overload(20, time.Second); s.wait(2 * time.Second); s.overload(20, time.Second) }, 8},
		"no further than the least": {func(s *aimdScript) { s.overload(100, 0) }, 4},
		"recovers from the least":   {func(s *aimdScript) { s.overload(100, 0); s.answer(4+5+6, usual, 200) }, 6}, // a little less than 7
		"unused limits shrink":      {func(s *aimdScript) { s.answer(10, usual, 1); s.overload(1, 0) }, 9},
		"slowly after an overload":  {func(s *aimdScript) { s.overload(1, 0); s.answer(10, usual, 200) }, 10},
		"an overload long ago":      {func(s *aimdScript) { s.overload(1, 0); s.wait(memory); s.answer(10, usual, 200) }, 19},
		"not while it is very late": {func(s *aimdScript) { s.answer(300, usual, 1); s.answer(300, 5*usual, 200) }, 10},
		"slowly while it is late":   {func(s *aimdScript) { s.answer(300, usual, 1); s.answer(22, 3*usual, 200) }, 12}, // 10+11
		"a little later":            {func(s *aimdScript) { s.answer(300, usual, 1); s.answer(30, usual*3/2, 200) }, 40},
		"after it was late":         {func(s *aimdScript) { s.answer(300, usual, 1); s.answer(99, 5*usual, 200); s.answer(21, usual, 200) }, 31},
		"late after an overload":    {func(s *aimdScript) { s.answer(300, usual, 1); s.overload(1, 0); s.answer(10, 5*usual, 200) }, 10},
		"late becomes usual": {func(s *aimdScript) {
			s.answer(300, usual, 1)
			s.answer(2*60*100*10, 5*usual, 1)
			s.answer(45, 5*usual, 200)
		}, 55},
		"late from the start":  {func(s *aimdScript) { s.answer(16, usual, 1); s.answer(600, 5*usual, 200) }, 10},
		"faster becomes usual": {func(s *aimdScript) { s.answer(300, 5*usual, 1); s.answer(2000, usual, 1); s.answer(45, 5*usual, 200) }, 10},
		"after a reset":        {func(s *aimdScript) { s.overload(9, 0); s.Reset() }, 10},
		"a fast service, in a burst": {func(s *aimdScript) {
			s.answer(300, 300*time.Microsecond, 1)
			s.answer(30, 5*time.Millisecond, 200)
			s.answer(30, 19*time.Millisecond, 200)
		}, 70},
		"a fast service that is late": {func(s *aimdScript) { s.answer(300, 300*time.Microsecond, 1); s.answer(300, 50*time.Millisecond, 200) }, 10},
		"grows after a reset":         {func(s *aimdScript) { s.overload(9, 0); s.Reset(); s.answer(10, usual, 200) }, 20},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			tt.script(s)
			if got := s.Limit(); got != tt.want {
				t.Errorf("the limit is %d (%.3f), want %d", got, s.exact, tt.want)
			}
		})
	}
}

// Whatever is reported, the limit keeps its bounds, grows by at most one an answer, and shrinks at most by a tenth and once for the
// calls that began before.
func TestAIMDKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, now := new(AIMD), time.Unix(1e9, 0)
		var shrunk time.Time
		for range rapid.IntRange(0, 300).Draw(t, "reports") {
			now = now.Add(time.Duration(rapid.Int64Range(-int64(time.Second), int64(20*time.Minute)).Draw(t, "pause")))
			took := time.Duration(rapid.Int64Range(-int64(time.Second), int64(time.Hour)).Draw(t, "took"))
			before := a.limit()
			if rapid.Bool().Draw(t, "answered") {
				inFlight := rapid.Int64Range(0, 250).Draw(t, "in flight")
				a.Answered(took, now, inFlight)
				if grown := a.limit() - before; grown < 0 || grown > 1.0001 || grown > 0 && 2*inFlight <= int64(before) {
					t.Fatalf("an answer with %d in flight changes the limit from %v to %v", inFlight, before, a.limit())
				}
			} else {
				start := now.Add(-took)
				a.Overloaded(start, now)
				want := before
				if !start.Before(shrunk) {
					want, shrunk = max(before*0.9, AIMDMin), now
				}
				if a.limit() != want {
					t.Fatalf("an overload changes the limit from %v to %v, want %v", before, a.limit(), want)
				}
			}
			if n := a.Limit(); n < AIMDMin || n > AIMDMax || n != int64(a.limit()) {
				t.Fatalf("the limit in force is %d, exactly %v", n, a.limit())
			}
		}
	})
}

func BenchmarkAIMDAnswered(b *testing.B) {
	a, now := new(AIMD), time.Unix(1e9, 0)
	tooks := make([]time.Duration, 1024)
	for i := range tooks {
		tooks[i] = time.Duration(rand.Int64N(int64(time.Second)))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		a.Answered(tooks[i%len(tooks)], now.Add(time.Duration(i)), 200)
	}
}
