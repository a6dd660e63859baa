package events

import "time"

// Call is one call to an upstream for which the circuit breaker was asked, as it is recorded.
type Call struct {
	// Time is when it was asked for.
	Time time.Time
	// Result is ResultRejected if the call was not made.
	Result Result
	// Status is that of the upstream's response; 0 if there was none.
	Status int
	// ErrorType is the type of a failure, "" otherwise.
	ErrorType ErrorType
	// Duration is that for which the breaker judged the call; 0 if it was not made.
	Duration time.Duration
}
