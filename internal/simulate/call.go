package simulate

import (
	"slices"
	"time"

	"cbproxy/internal/events"
)

// Call is a recorded call in 24 bytes, a third of an events.Call: a record may have millions.
type Call struct {
	at, took     int64 // nanoseconds, at since 1970
	status       uint16
	result, kind uint8 // the places in events.Results and events.ErrorTypes, plus 1; 0 is none
}

// NewCall returns c as a Call. A result or a type that events does not list becomes none.
func NewCall(c events.Call) Call {
	return Call{
		at: c.Time.UnixNano(), took: int64(c.Duration), status: uint16(c.Status), // #nosec G115 -- a status has three digits
		result: uint8(slices.Index(events.Results[:], c.Result) + 1), // #nosec G115 -- a short list
		kind:   uint8(slices.Index(events.ErrorTypes[:], c.ErrorType) + 1),
	}
}

// Time returns when the call was asked for, in UTC.
func (c *Call) Time() time.Time { return time.Unix(0, c.at).UTC() }

func (c *Call) duration() time.Duration { return time.Duration(c.took) }
func (c *Call) end() time.Time          { return time.Unix(0, c.at+c.took).UTC() }

// Result returns the result of the call, "" for none.
func (c *Call) Result() events.Result {
	if c.result == 0 {
		return ""
	}
	return events.Results[c.result-1]
}

// WithResult returns the call with another result.
func (c Call) WithResult(r events.Result) Call {
	c.result, c.kind = uint8(slices.Index(events.Results[:], r)+1), 0 // #nosec G115 -- a short list
	return c
}

// errorType returns the type of a failure, "" for none.
func (c *Call) errorType() events.ErrorType {
	if c.kind == 0 {
		return ""
	}
	return events.ErrorTypes[c.kind-1]
}
