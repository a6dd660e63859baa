package limit

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of an AIMD, and its limit before the first report.
const (
	AIMDMin     = 4
	AIMDMax     = 200
	AIMDInitial = 20
)

const (
	shrinkFactor = 0.9
	// memory is how long an overload and slow answers make the limit grow carefully. It is also the time constant with which the usual
	// response time follows longer ones.
	memory = 10 * time.Minute
	// recentAnswers and usualAnswers are the numbers of answers over which the recent response time is averaged, and over which the
	// usual one follows shorter ones.
	recentAnswers, usualAnswers = 32, 256
)

// slowFactor is the logarithm of how many times longer than usual recent answers have to take to be slow. A single answer is slow if
// it takes the square of that.
var slowFactor = math.Log(2)

// AIMD is a limit on the calls in flight to a service that is found by additive increase and multiplicative decrease.
//
// It shrinks by a tenth when a call meets an overload, but once for all calls that began before it shrank: they were admitted by the
// old limit. It grows when a call is answered while more than half of the limit is in use:
//   - by one for each answer, at first;
//   - by one for as many answers as the limit is, if there was an overload or if answers were slow within the memory;
//   - not at all while answers take much longer than usual, unless there was an overload within the memory. From then on the service
//     itself says what is too much, and its other callers, which may have begun when it was slow already, do not wait either.
//
// Safe for concurrent use; the zero AIMD is ready to use.
type AIMD struct {
	current atomic.Int64 // the limit in force; 0: AIMDInitial

	mu                 sync.Mutex // guards what follows
	exact              float64    // the limit with its fraction; 0: AIMDInitial
	shrunk             time.Time  // when the limit last shrank
	overloaded, slowed time.Time  // when there was last an overload, and when answers were last slow; zero: never

	// The geometric means of response times, as logarithms of seconds: a few long ones do not dominate.
	recent, usual float64
	answers       int // up to usualAnswers
	lastAnswer    time.Time
}

// Limit returns the limit in force, from AIMDMin to AIMDMax.
func (a *AIMD) Limit() int64 {
	if n := a.current.Load(); n > 0 {
		return n
	}
	return AIMDInitial
}

// Answered reports that a call was answered at now after took. inFlight is the number of calls in flight, including it.
func (a *AIMD) Answered(took time.Duration, now time.Time, inFlight int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slow := a.observe(took, now)
	limit := a.limit()
	switch {
	case 2*inFlight <= int64(limit): // the service was not asked to do more than before
	case recently(a.overloaded, now):
		a.set(limit + 1/limit)
	case slow:
	case recently(a.slowed, now):
		a.set(limit + 1/limit)
	default:
		a.set(limit + 1)
	}
}

// Overloaded reports at now that a call that began at start met an overload of the service.
func (a *AIMD) Overloaded(start, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.overloaded = now
	if !start.Before(a.shrunk) {
		a.shrunk = now
		a.set(a.limit() * shrinkFactor)
	}
}

// Reset forgets what was learnt.
func (a *AIMD) Reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current.Store(0)
	a.exact, a.answers = 0, 0
	a.shrunk, a.overloaded, a.slowed = time.Time{}, time.Time{}, time.Time{}
}

func (a *AIMD) limit() float64 {
	if a.exact == 0 {
		return AIMDInitial
	}
	return a.exact
}

func (a *AIMD) set(limit float64) {
	a.exact = min(max(limit, AIMDMin), AIMDMax)
	a.current.Store(int64(a.exact))
}

func recently(t, now time.Time) bool { return !t.IsZero() && now.Sub(t) < memory }

// observe adds the response time of an answer to the averages, and reports whether answers take much longer than usual.
func (a *AIMD) observe(took time.Duration, now time.Time) (slow bool) {
	x := math.Log(max(took, time.Microsecond).Seconds())
	if a.answers == 0 {
		a.recent, a.usual = x, x
	}
	a.answers = min(a.answers+1, usualAnswers)
	a.recent += (x - a.recent) / float64(min(a.answers, recentAnswers))
	weight := 1 / float64(a.answers)
	if a.recent > a.usual && a.answers == usualAnswers { // while the service is slow for long, that is not usual
		weight = min(weight, float64(max(now.Sub(a.lastAnswer), 0))/float64(memory))
	}
	a.usual += (a.recent - a.usual) * weight
	a.lastAnswer = now
	if a.recent > a.usual+slowFactor {
		a.slowed = now
		return true
	}
	return x > a.usual+2*slowFactor
}
