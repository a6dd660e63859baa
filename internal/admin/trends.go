package admin

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// The trends cover the last hour with a point every five seconds, about 30 KB per service.
const (
	trendStep   = 5 * time.Second
	trendPoints = int(time.Hour / trendStep)
)

// Totals are the cumulative counters of a service.
type Totals struct {
	// The numbers of client requests by outcome.
	Success, Failure, Rejected, Cancelled uint64
	// Fallbacks is the number of responses from a fallback.
	Fallbacks uint64
	// Durations is the cumulative histogram of response times: Durations[i] calls took at most Bounds[i] seconds. The last
	// element has no bound and counts all calls.
	Durations []uint64
	Bounds    []float64
}

// Trends records the rates and response times of the last hour in bounded memory. It samples counters periodically, so that
// requests do no extra work. It is safe for concurrent use.
type Trends struct {
	totals func() map[string]Totals

	mu       sync.Mutex
	services map[string]*serviceTrend // guarded by mu
}

// NewTrends returns the trends of the services in the result of totals, by name. Run must run to fill them.
func NewTrends(totals func() map[string]Totals) *Trends {
	return &Trends{totals: totals, services: map[string]*serviceTrend{}}
}

// Run samples the totals periodically until ctx is done.
func (t *Trends) Run(ctx context.Context) {
	t.sample(time.Now())
	ticker := time.NewTicker(trendStep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			t.sample(now)
		}
	}
}

// sample adds a point to the trend of each service and removes services that no longer exist.
func (t *Trends) sample(now time.Time) {
	totals := t.totals()
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.services {
		if _, ok := totals[name]; !ok {
			delete(t.services, name)
		}
	}
	for name, next := range totals {
		s := t.services[name]
		if s == nil {
			t.services[name] = &serviceTrend{sampledAt: now, last: next}
			continue
		}
		s.add(now, next)
	}
}

// since returns the points after the given Unix time, of one service, or of all services if the name is "".
func (t *Trends) since(after int64, service string) map[string]Trend {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[string]Trend{}
	for name, s := range t.services {
		if service == "" || name == service {
			all[name] = s.since(after)
		}
	}
	return all
}

// serviceTrend holds the points of one service. It is guarded by Trends.mu.
type serviceTrend struct {
	sampledAt time.Time // when last was sampled
	last      Totals
	points    []point // becomes a ring buffer once it has trendPoints elements
	oldest    int     // index of the oldest point
}

// point contains the rates and response times between two samples.
type point struct {
	time                                             int64 // of the second sample, in Unix seconds
	success, failure, rejected, cancelled, fallbacks float32
	p50, p95, p99                                    float32 // NaN without calls to the upstream
}

// add appends the point between the last sample and next, and overwrites the oldest point if the buffer is full.
func (s *serviceTrend) add(now time.Time, next Totals) {
	elapsed := now.Sub(s.sampledAt).Seconds()
	if elapsed <= 0 {
		return
	}
	rate := func(before, after uint64) float32 {
		if after < before { // the service was removed and added again, which resets its counters
			before = 0
		}
		return float32(float64(after-before) / elapsed)
	}
	p := point{
		time:    now.Unix(),
		success: rate(s.last.Success, next.Success), failure: rate(s.last.Failure, next.Failure),
		rejected: rate(s.last.Rejected, next.Rejected), cancelled: rate(s.last.Cancelled, next.Cancelled),
		fallbacks: rate(s.last.Fallbacks, next.Fallbacks),
	}
	durations := make([]uint64, len(next.Durations))
	for i, n := range next.Durations {
		if durations[i] = n; i < len(s.last.Durations) && n >= s.last.Durations[i] {
			durations[i] = n - s.last.Durations[i]
		}
	}
	p.p50, p.p95, p.p99 = quantile(.5, durations, next.Bounds), quantile(.95, durations, next.Bounds), quantile(.99, durations, next.Bounds)
	s.sampledAt, s.last = now, next
	if len(s.points) < trendPoints {
		s.points = append(s.points, p)
		return
	}
	s.points[s.oldest] = p
	s.oldest = (s.oldest + 1) % len(s.points)
}

// quantile estimates a quantile of a cumulative histogram like Prometheus' histogram_quantile: it interpolates linearly within
// a bucket, and returns the highest bound for values above it. It returns NaN if the histogram is empty.
func quantile(q float64, cumulative []uint64, bounds []float64) float32 {
	if len(cumulative) == 0 || cumulative[len(cumulative)-1] == 0 {
		return float32(math.NaN())
	}
	rank := q * float64(cumulative[len(cumulative)-1])
	below, low := 0.0, 0.0
	for i, bound := range bounds {
		if n := float64(cumulative[i]); n >= rank {
			return float32(low + (bound-low)*(rank-below)/(n-below))
		}
		below, low = float64(cumulative[i]), bound
	}
	return float32(low)
}

// since returns the points after the given Unix time.
func (s *serviceTrend) since(after int64) Trend {
	var t Trend
	t.Time = []int64{}
	curves := []*[]NullableFloat{&t.Success, &t.Failure, &t.Rejected, &t.Cancelled, &t.Fallbacks, &t.P50, &t.P95, &t.P99}
	for _, curve := range curves {
		*curve = []NullableFloat{}
	}
	for i := range s.points {
		p := s.points[(s.oldest+i)%len(s.points)]
		if p.time <= after {
			continue
		}
		t.Time = append(t.Time, p.time)
		for i, v := range []float32{p.success, p.failure, p.rejected, p.cancelled, p.fallbacks, p.p50, p.p95, p.p99} {
			*curves[i] = append(*curves[i], NullableFloat(v))
		}
	}
	return t
}

// Trend contains the points of one service, oldest first, as one list per curve.
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

// NullableFloat is a number whose JSON form is null for NaN.
type NullableFloat float32

// MarshalJSON writes f with five significant digits, or null.
func (f NullableFloat) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(f), 'g', 5, 32), nil
}

// trends responds with the points of the last hour, or with those after the time in the query.
func (a *api) trends(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	var faults []string
	after := int64(0)
	if text := query.Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseInt(text, 10, 64); err != nil {
			faults = append(faults, fmt.Sprintf("after: must be a time in whole Unix seconds, got %q", text))
		}
	}
	service := query.Get("service")
	if _, ok := a.Backend.Service(service); service != "" && !ok {
		faults = append(faults, "service: must be the name of a service, got "+strconv.Quote(service))
	}
	if len(faults) > 0 {
		writeProblem(w, http.StatusBadRequest, "the query is invalid", faults...)
		return
	}
	respond(w, http.StatusOK, map[string]any{"step": Seconds(trendStep), "services": a.Trends.since(after, service)})
}
