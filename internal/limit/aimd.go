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
	AIMDInitial = 10
)

const (
	shrinkFactor = 0.9
	// memory is how long an overload makes the limit grow slowly. It is also the time constant with which the usual response time
	// follows longer ones.
	memory = 10 * time.Minute
	// recentAnswers and usualAnswers are the numbers of answers over which the recent response time is averaged, and over which the
	// usual one follows it down.
	recentAnswers, usualAnswers = 16, 256
	// shortest is the response time below which differences mean nothing: scheduling on this machine causes them, too.
	shortest = 10 * time.Millisecond
)

// An answer is late if it takes twice as long as usual, and very late if it takes four times as long. These are the logarithms.
var late, veryLate = math.Log(2), math.Log(4)

// AIMD is a limit on the calls in flight to a service that is found by additive increase and multiplicative decrease.
//
// It shrinks by a tenth when a call meets an overload, but once for all calls that began before it shrank: they were admitted by the
// old limit. It grows when a call is answered while more than half of the limit is in use:
//   - by one for each answer;
//   - by one for as many answers as the limit is, if the answer is late, or if there was an overload within the memory;
//   - not if the answer is very late, unless there was an overload within the memory: from then on the service itself says what is too
//     much. Its other callers, which may have begun when it was late already, do not hold back either.
//
// Safe for concurrent use; the zero AIMD is ready to use.
type AIMD struct {
	current atomic.Int64 // the limit in force; 0: AIMDInitial

	mu         sync.Mutex // guards what follows
	exact      float64    // the limit with its fraction; 0: AIMDInitial
	shrunk     time.Time  // when the limit last shrank; zero: never
	overloaded time.Time  // when there was last an overload; zero: never

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
	delay := a.observe(took, now)
	limit := a.limit()
	if 2*inFlight <= int64(limit) {
		return // that the service has answered does not show that it can do more
	}
	switch wasOverloaded := !a.overloaded.IsZero() && now.Sub(a.overloaded) < memory; {
	case wasOverloaded, delay > late && delay <= veryLate:
		a.set(limit + 1/limit)
	case delay <= late:
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
	a.shrunk, a.overloaded = time.Time{}, time.Time{}
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

// observe adds a response time to the averages, and returns the logarithm of how many times the usual one it is.
func (a *AIMD) observe(took time.Duration, now time.Time) (delay float64) {
	x := math.Log(max(took, shortest).Seconds())
	if a.answers == 0 {
		a.recent, a.usual = x, x
	}
	a.answers = min(a.answers+1, usualAnswers)
	a.recent += (x - a.recent) / float64(min(a.answers, recentAnswers))
	weight := 1 / float64(a.answers)
	if a.recent > a.usual && a.answers > recentAnswers { // what is late for a while is not usual
		weight = min(weight, float64(max(now.Sub(a.lastAnswer), 0))/float64(memory))
	}
	a.usual += (a.recent - a.usual) * weight
	a.lastAnswer = now
	return x - a.usual
}
