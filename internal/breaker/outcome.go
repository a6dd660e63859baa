package breaker

// outcome is the result of a call as an engine counts it. gobreaker passes it on as an error.
// The values below are the only ones, so a report allocates nothing.
type outcome struct {
	name                    string
	failed, slow, cancelled bool
	abandoned               bool // neither a success nor a failure, but counted for the slow call ratio
}

var (
	succeeded     = &outcome{name: "succeeded"}
	succeededSlow = &outcome{name: "succeeded slowly", slow: true}
	failed        = &outcome{name: "failed", failed: true}
	failedSlow    = &outcome{name: "failed slowly", failed: true, slow: true}
	cancelled     = &outcome{name: "cancelled", cancelled: true}
	abandonedSlow = &outcome{name: "abandoned slowly", slow: true, abandoned: true}
)

// Error implements error.
func (o *outcome) Error() string { return o.name }
