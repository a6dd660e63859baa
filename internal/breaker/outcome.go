package breaker

// outcome is the result of a call as an engine counts it. gobreaker passes it on as an error. The values below are the only ones,
// so a report allocates nothing.
type outcome struct {
	name                    string
	failed, slow, cancelled bool
	abandoned               bool // neither a success nor a failure, but counted for the slow call ratio
}

var (
	outcomeSucceeded     = &outcome{name: "succeeded"}
	outcomeSucceededSlow = &outcome{name: "succeeded slowly", slow: true}
	outcomeFailed        = &outcome{name: "failed", failed: true}
	outcomeFailedSlow    = &outcome{name: "failed slowly", failed: true, slow: true}
	outcomeCancelled     = &outcome{name: "cancelled", cancelled: true}
	outcomeAbandonedSlow = &outcome{name: "abandoned slowly", slow: true, abandoned: true}
)

// Error implements error.
func (o *outcome) Error() string { return o.name }
