package simulate

import (
	"time"

	"cbproxy/internal/events"
)

// Bucket is the calls in a part of the time.
type Bucket struct {
	// Time is the begin of the part.
	Time time.Time `json:"time"`
	// Calls is the number of calls, Failures that of those that failed, Rejected that of those that were not made.
	Calls    int `json:"calls"`
	Failures int `json:"failures"`
	Rejected int `json:"rejected"`
}

// SetBuckets divides the time from since to until into n parts of the same length, and counts the calls in each. Calls before and after
// are left out.
func (s *ServiceReport) SetBuckets(calls []Call, since, until time.Time, n int) {
	step := max((until.Sub(since)+time.Duration(n)-1)/time.Duration(n), time.Nanosecond)
	s.Buckets = make([]Bucket, n)
	for i := range s.Buckets {
		s.Buckets[i].Time = since.Add(time.Duration(i) * step).UTC()
	}
	from := since.UnixNano()
	for i := range calls {
		c := &calls[i]
		place := (c.at - from) / int64(step)
		if c.at < from || place >= int64(n) {
			continue
		}
		b := &s.Buckets[place]
		b.Calls++
		switch c.Result() {
		case events.ResultFailure:
			b.Failures++
		case events.ResultRejected:
			b.Rejected++
		}
	}
}
