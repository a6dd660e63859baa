package events

import (
	"slices"
	"time"
)

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

// Code returns the number of a result in records that are stored: its place in Results, plus 1; 0 for a value that is not listed.
func (r Result) Code() uint8 { return codeIn(Results[:], r) }

// ResultOf is the inverse of Result.Code; "" for a number that no result has.
func ResultOf(code uint8) Result { return withCode(Results[:], code) }

// Code returns the number of a type in records that are stored: its place in ErrorTypes, plus 1; 0 for a value that is not listed.
func (t ErrorType) Code() uint8 { return codeIn(ErrorTypes[:], t) }

// ErrorTypeOf is the inverse of ErrorType.Code; "" for a number that no type has.
func ErrorTypeOf(code uint8) ErrorType { return withCode(ErrorTypes[:], code) }

func codeIn[T comparable](list []T, v T) uint8 {
	return uint8(slices.Index(list, v) + 1) // #nosec G115 -- the lists are short
}

func withCode[T any](list []T, code uint8) (v T) {
	if code > 0 && int(code) <= len(list) {
		v = list[code-1]
	}
	return v
}
