package simulate

import (
	"time"

	"cbproxy/internal/events"
)

// Call is a recorded call in 24 bytes, a third of an events.Call: a record may have millions.
type Call struct {
	at, took     int64 // nanoseconds, at since 1970
	status       uint16
	result, kind uint8 // the codes of events.Result and events.ErrorType
}

// NewCall returns c as a Call. A result or a type that events does not list becomes none.
func NewCall(c events.Call) Call {
	return Call{
		at: c.Time.UnixNano(), took: int64(c.Duration), status: uint16(c.Status), // #nosec G115 -- a status has three digits
		result: c.Result.Code(), kind: c.ErrorType.Code(),
	}
}

// Time returns when the call was asked for, in UTC.
func (c *Call) Time() time.Time { return time.Unix(0, c.at).UTC() }

func (c *Call) duration() time.Duration { return time.Duration(c.took) }
func (c *Call) end() time.Time          { return time.Unix(0, c.at+c.took).UTC() }

// Result returns the result of the call, "" for none.
func (c *Call) Result() events.Result { return events.ResultOf(c.result) }

// WithResult returns the call with another result.
func (c Call) WithResult(r events.Result) Call {
	c.result, c.kind = r.Code(), 0
	return c
}

// errorType returns the type of a failure, "" for none.
func (c *Call) errorType() events.ErrorType { return events.ErrorTypeOf(c.kind) }
