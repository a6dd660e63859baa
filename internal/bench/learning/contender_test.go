package learning

import (
	"slices"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
	"cbproxy/internal/simulate"
)

// contender decides which calls of a record are made.
type contender struct {
	name string
	run  func(rec *record) decisions
}

// decisions are what a contender does with a record.
type decisions struct {
	admitted []bool          // for each call
	openings []time.Duration // times
}

// defaults are the options of the learning breaker if it is switched on.
func defaults() adaptive.Options {
	return adaptive.Options{
		Mode: adaptive.Enforce, FalseAlarm: 1e-8, MinRatio: 0.2, MinCalls: 50, Floor: 0.01, Cap: 0.1, WarmupCalls: 200, WarmupTime: 30 * time.Minute,
	}
}

// anyCalls are the defaults without a number of calls before which the breaker does not open.
func anyCalls() adaptive.Options {
	o := defaults()
	o.MinCalls = 0
	return o
}

// failMax is the default policy of a route: five consecutive failures open the breaker.
func failMax() breaker.Policy {
	return breaker.Policy{
		FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
		RecoveryBackoff: breaker.Backoff{Multiplier: 1, Max: 10 * time.Minute},
	}
}

// learning is failMax with a breaker that learns.
func learning(o adaptive.Options) breaker.Policy {
	p := failMax()
	p.Adaptive = o
	return p
}

// throttle is the algorithm of this name with its defaults, alone.
func throttle() breaker.Policy {
	p := failMax()
	p.FailMax, p.Limits = 0, algorithm.Limits{Algorithm: "throttle", Window: 30 * time.Second}
	return p
}

var (
	withoutLearning = contender{"fail_max", withPolicy(failMax())}
	withLearning    = contender{"adaptive", withPolicy(learning(defaults()))}
	withoutMinimum  = contender{"min_calls: 0", withPolicy(learning(anyCalls()))}
	contenders      = []contender{
		withoutLearning, withLearning, withoutMinimum, {"throttle", withPolicy(throttle())},
		{"Envoy", controlled(newEnvoy)}, {"Semian", controlled(newSemian)},
	}
)

// withPolicy returns what the breaker of the proxy does.
func withPolicy(p breaker.Policy) func(*record) decisions {
	return func(rec *record) decisions {
		d := decisions{admitted: make([]bool, len(rec.calls))}
		result := simulate.RunEach(rec.kind.name, p, rec.simulated, func(i int, admitted bool) { d.admitted[i] = admitted })
		for _, t := range result.Transitions {
			if t.To == events.Open {
				d.openings = append(d.openings, t.Time.Sub(begin))
			}
		}
		return d
	}
}

// controller rejects a share of the calls, and never opens.
type controller interface {
	// admit decides about a call. random is a number in [0, 1).
	admit(now time.Duration, random float64) bool
	// observe counts a call that has ended.
	observe(now time.Duration, failed bool)
}

// controlled returns what a controller does.
func controlled[C controller](newController func() C) func(*record) decisions {
	return func(rec *record) decisions {
		d := decisions{admitted: make([]bool, len(rec.calls))}
		c, r := newController(), random(rec.kind.name+" decisions", rec.seed)
		var pending []call // by the times of their ends, which are in at
		for i, next := range rec.calls {
			for len(pending) > 0 && pending[0].at <= next.at {
				c.observe(pending[0].at, pending[0].failed)
				pending = pending[1:]
			}
			if d.admitted[i] = c.admit(next.at, r.Float64()); d.admitted[i] {
				next.at += next.took
				place, _ := slices.BinarySearchFunc(pending, next.at+1, func(c call, at time.Duration) int { return int(c.at - at) })
				pending = slices.Insert(pending, place, next)
			}
		}
		return d
	}
}
