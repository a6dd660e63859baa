package trends

import (
	"math"
	"strconv"
)

// Trend contains the points of one service, oldest first, as one list per curve, in the form of the admin API.
type Trend struct {
	// Time is the end of each point's interval in Unix seconds.
	Time []int64 `json:"time"`
	// Requests per second by outcome, and responses from a fallback per second.
	Success   []NullableFloat `json:"success"`
	Failure   []NullableFloat `json:"failure"`
	Rejected  []NullableFloat `json:"rejected"`
	Cancelled []NullableFloat `json:"cancelled"`
	Fallbacks []NullableFloat `json:"fallbacks"`
	// P50, P95 and P99 are response times in seconds; null without calls to the upstream.
	P50 []NullableFloat `json:"p50"`
	P95 []NullableFloat `json:"p95"`
	P99 []NullableFloat `json:"p99"`
}

// NullableFloat is a number whose JSON form is null if it is not finite.
type NullableFloat float32

// MarshalJSON writes f with five significant digits, or null.
func (f NullableFloat) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(f), 'g', 5, 32), nil
}

// since returns the points after the given Unix time.
func (s *service) since(after int64) Trend {
	var t Trend
	t.Time = []int64{}
	curves := []*[]NullableFloat{&t.Success, &t.Failure, &t.Rejected, &t.Cancelled, &t.Fallbacks, &t.P50, &t.P95, &t.P99}
	for _, curve := range curves {
		*curve = []NullableFloat{}
	}
	for i := range s.points {
		p := &s.points[(s.oldest+i)%len(s.points)]
		if p.time <= after {
			continue
		}
		t.Time = append(t.Time, p.time)
		rate := func(n uint32) float32 { return float32(n) / p.seconds }
		for i, v := range []float32{
			rate(p.success), rate(p.failure), rate(p.rejected), rate(p.cancelled), rate(p.fallbacks), p.p50, p.p95, p.p99,
		} {
			*curves[i] = append(*curves[i], NullableFloat(v))
		}
	}
	return t
}
