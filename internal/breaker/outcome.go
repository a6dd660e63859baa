package breaker

import (
	"sync"
	"time"

	"cbproxy/internal/events"
)

// outcome is the result of a call as an engine counts it. gobreaker passes it on as an error. The values below, and
// those of outcomePool if more is to be known, are the only ones, so a report allocates nothing.
type outcome struct {
	name                    string
	failed, slow, cancelled bool
	abandoned               bool // neither a success nor a failure, but counted for the slow call ratio

	key uint64 // of a failed or slow call; 0: it has none

	injected bool          // by an operator: nothing is learnt from it
	learnt   time.Duration // of a success, if it is learnt

	kind events.ErrorType // of a failure, if the algorithm needs details
	took time.Duration    // if the algorithm needs details and the policy uses durations
}

var (
	outcomeSucceeded     = &outcome{name: "succeeded"}
	outcomeSucceededSlow = &outcome{name: "succeeded slowly", slow: true}
	outcomeFailed        = &outcome{name: "failed", failed: true}
	outcomeFailedSlow    = &outcome{name: "failed slowly", failed: true, slow: true}
	outcomeCancelled     = &outcome{name: "cancelled", cancelled: true}
	outcomeAbandonedSlow = &outcome{name: "abandoned slowly", slow: true, abandoned: true}
)

// outcomePool holds the outcomes with details that are not in use.
var outcomePool = sync.Pool{New: func() any { return new(outcome) }}

// Error implements error.
func (o *outcome) Error() string { return o.name }
