package learning

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/simulate"
)

// record is the calls to one upstream, as they would end if all of them were made. The upstream is healthy at first, for as long as
// the learning breaker needs to know it. Only what comes after that is measured.
type record struct {
	kind  *kind
	seed  int
	rate  float64 // mean calls per second
	base  float64 // the failure ratio of the healthy upstream
	calls []call

	warm     time.Duration // the end of the healthy time that is not measured
	from, to time.Duration // of the fault; the same if there is none

	simulated []simulate.Call // calls, as recorded calls of the proxy
}

// call is one call of a record.
type call struct {
	at, took time.Duration
	failed   bool
}

const (
	answer = 50 * time.Millisecond // for which a healthy upstream takes
	lead   = 5 * time.Minute       // of healthy calls that are measured before a fault
)

// behaviour is an upstream: it returns the probability with which a call fails at a time, since the end of the time that is not
// measured, and for how long the call takes then. It is called once for each call, in order.
type behaviour func(at time.Duration) (ratio float64, took time.Duration)

// random returns the random numbers of a record.
func random(name string, seed int) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return rand.New(rand.NewPCG(uint64(seed), h.Sum64())) // #nosec G404 G115 -- the same each time
}

// spread returns a number between the bounds, on a logarithmic scale: the numbers of n records are spread evenly.
func spread(bounds [2]float64, position float64) float64 {
	return bounds[0] * math.Pow(bounds[1]/bounds[0], position)
}

// record makes record number seed of n.
func (k *kind) record(seed, n int) *record {
	r := random(k.name, seed)
	rec := &record{kind: k, seed: seed, rate: spread(k.rate, (float64(seed)+r.Float64())/float64(n)), base: spread(k.base, r.Float64())}
	rec.warm = max(40*time.Minute, seconds(300/rec.rate))
	rec.from, rec.to = rec.warm+k.healthy, rec.warm+k.healthy+k.fault
	end := rec.to + k.after
	upstream, load := k.upstream(r, rec), k.load
	if load == nil {
		load = func(time.Duration) float64 { return 1 }
	}
	expected := int(1.1*rec.rate*end.Seconds()) + 100
	rec.calls, rec.simulated = make([]call, 0, expected), make([]simulate.Call, 0, expected)
	for at := time.Duration(0); ; {
		at += seconds(r.ExpFloat64() / (rec.rate * load(at)))
		if at >= end {
			return rec
		}
		ratio, took := rec.base, answer
		if at >= rec.warm {
			ratio, took = upstream(at - rec.warm)
		}
		rec.add(call{at, took, r.Float64() < ratio})
	}
}

var begin = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// add adds a call.
func (rec *record) add(c call) {
	e := events.Call{Time: begin.Add(c.at), Duration: c.took, Result: events.ResultSuccess, Status: 200}
	if c.failed {
		e.Result, e.ErrorType, e.Status = events.ResultFailure, events.ErrorStatus, 500
	}
	rec.calls, rec.simulated = append(rec.calls, c), append(rec.simulated, simulate.NewCall(e))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// measured returns the index of the first call that is measured.
func (rec *record) measured() int {
	for i := range rec.calls {
		if rec.calls[i].at >= rec.warm {
			return i
		}
	}
	return len(rec.calls)
}
