package forecast

import (
	"math"
	"sort"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/trends"
)

// Breaker tells when assumed calls open a breaker. breaker.Breaker implements it.
type Breaker interface {
	OpensAfter(breaker.Projection) (time.Duration, bool)
}

// openingLimit is how far timeToOpen looks ahead.
const openingLimit = time.Hour

// timeToOpen returns the seconds until the breaker opens if the calls come at their present rate and fail as it is predicted; +Inf if it
// does not open within an hour, NaN if the rate is not known.
//
// It looks for the first time at which the predicted failure ratio would open the breaker if it stayed as it is then, and begins there
// to follow the prediction. A breaker is asked for at most a thousand calls, so it need not be asked for all calls of an hour.
func timeToOpen(m *ratioModel, o *Observation) float64 {
	interval := intervalOf(o)
	if interval <= 0 {
		return math.NaN()
	}
	failureRatio := func(after time.Duration) float64 { return 1 - m.predict(int(after/trends.Interval)) }
	opensAt := func(ratio float64) bool {
		_, opens := o.Breaker.OpensAfter(breaker.Projection{
			Interval: interval, Within: openingLimit, FailureRatio: func(time.Duration) float64 { return ratio },
		})
		return opens
	}
	now, last := failureRatio(0), failureRatio(openingLimit)
	if !opensAt(max(now, last)) {
		return math.Inf(1)
	}
	begin := time.Duration(0)
	if last > now {
		steps := int(openingLimit/trends.Interval) - 1
		begin = trends.Interval * time.Duration(sort.Search(steps, func(i int) bool {
			return opensAt(failureRatio(time.Duration(i) * trends.Interval))
		}))
	}
	after, opens := o.Breaker.OpensAfter(breaker.Projection{
		Interval: interval, Within: openingLimit - begin, FailureRatio: func(after time.Duration) float64 { return failureRatio(begin + after) },
	})
	if !opens {
		return math.Inf(1)
	}
	return (begin + after).Seconds()
}

// intervalOf returns the time between two calls at the present rate: that of the last minute, or of the last 5 minutes if that has few; 0 if it
// is not known.
func intervalOf(o *Observation) time.Duration {
	if minute := o.Windows[0].Success + o.Windows[0].Failure; minute >= minWindowCalls {
		return time.Minute / time.Duration(minute) // #nosec G115 -- a number of calls
	}
	if minutes := o.Windows[1].Success + o.Windows[1].Failure; minutes > 0 {
		return 5 * time.Minute / time.Duration(minutes) // #nosec G115
	}
	return 0
}
