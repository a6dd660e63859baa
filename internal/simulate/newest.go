package simulate

import (
	"fmt"
	"slices"
	"time"

	"cbproxy/internal/events"
)

// Newest holds the calls of one service, and only the newest ones if they are more than a limit.
type Newest struct {
	limit, total int
	calls        []Call // a ring once there are more than limit
}

// NewNewest returns a Newest that holds up to limit calls.
func NewNewest(limit int) *Newest { return &Newest{limit: limit} }

// Add adds a call. It must not be older than those before it.
func (n *Newest) Add(c events.Call) {
	if len(n.calls) < n.limit {
		if len(n.calls) == cap(n.calls) { // append would grow it in more and smaller steps, which leave more garbage
			n.calls = slices.Grow(n.calls, min(len(n.calls)+1024, n.limit-len(n.calls)))
		}
		n.calls = append(n.calls, NewCall(c))
	} else {
		n.calls[n.total%n.limit] = NewCall(c)
	}
	n.total++
}

// Total returns the number of calls that were added.
func (n *Newest) Total() int { return n.total }

// TooManyCallsError reports that a record has more calls than a Newest holds.
type TooManyCallsError struct {
	Calls, Limit int
	// Since is a time since which there are fewer calls, even if some more are recorded meanwhile.
	Since time.Time
}

func (e *TooManyCallsError) Error() string {
	return fmt.Sprintf("there are %d calls, more than %d; those since %s are fewer", e.Calls, e.Limit, e.Since.Format(time.RFC3339))
}

// Calls returns the calls, oldest first, or a *TooManyCallsError if they were more than the limit.
func (n *Newest) Calls() ([]Call, error) {
	if n.total <= n.limit {
		return n.calls, nil
	}
	oldest, newest := n.calls[n.total%n.limit].Time(), n.calls[(n.total-1)%n.limit].Time()
	fits := oldest.Add(newest.Sub(oldest) / 10).Truncate(time.Second).Add(time.Second)
	return nil, &TooManyCallsError{n.total, n.limit, fits}
}
