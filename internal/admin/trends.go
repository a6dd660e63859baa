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

// The last hour is kept, a point in five seconds: some 30 KB for a service.
const (
	trendStep   = 5 * time.Second
	trendPoints = int(time.Hour / trendStep)
)

// Totals are a service's counters, which only grow.
type Totals struct {
	// Requests of clients, by how they ended.
	Success, Failure, Rejected, Cancelled uint64
	// Fallbacks are the responses given in the upstream's place.
	Fallbacks uint64
	// Durations are the requests that the upstream was asked, by their time: Durations[i] took at
	// most Bounds[i] seconds, and those of the last one, which has no bound, any time.
	Durations []uint64
	Bounds    []float64
}

// Trends keeps what happened in the last hour, in fixed memory: it looks at counters from time to
// time, and costs a request nothing. Safe for concurrent use.
type Trends struct {
	totals func() map[string]Totals

	mu       sync.Mutex
	services map[string]*trend
}

// NewTrends returns trends of the services whose totals the function returns. They grow while Run
// runs.
func NewTrends(totals func() map[string]Totals) *Trends {
	return &Trends{totals: totals, services: map[string]*trend{}}
}

// Run looks at the totals until ctx is done.
func (t *Trends) Run(ctx context.Context) {
	t.look(time.Now())
	ticker := time.NewTicker(trendStep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			t.look(now)
		}
	}
}

func (t *Trends) look(now time.Time) {
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
			t.services[name] = &trend{seen: now, last: next}
			continue
		}
		s.add(now, next)
	}
}

// trend is a service's last hour.
type trend struct {
	seen   time.Time // when last was so
	last   Totals
	points []point // a ring once it is full
	oldest int
}

// point is what happened between two looks.
type point struct {
	time                                             int64 // of the second look, Unix seconds
	success, failure, rejected, cancelled, fallbacks float32
	p50, p95, p99                                    float32 // NaN where nothing was asked
}

func (s *trend) add(now time.Time, next Totals) {
	elapsed := now.Sub(s.seen).Seconds()
	if elapsed <= 0 {
		return
	}
	rate := func(before, after uint64) float32 {
		if after < before { // the service was taken out and put in again
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
	s.seen, s.last = now, next
	if len(s.points) < trendPoints {
		s.points = append(s.points, p)
		return
	}
	s.points[s.oldest] = p
	s.oldest = (s.oldest + 1) % len(s.points)
}

// quantile estimates a quantile from the counts up to each bound, as Prometheus' histogram_quantile
// does: evenly within a bucket, and the highest bound for what is above it. It is NaN without counts.
func quantile(q float64, upTo []uint64, bounds []float64) float32 {
	if len(upTo) == 0 || upTo[len(upTo)-1] == 0 {
		return float32(math.NaN())
	}
	rank := q * float64(upTo[len(upTo)-1])
	below, low := 0.0, 0.0
	for i, bound := range bounds {
		if n := float64(upTo[i]); n >= rank {
			return float32(low + (bound-low)*(rank-below)/(n-below))
		}
		below, low = float64(upTo[i]), bound
	}
	return float32(low)
}

// Trend is a service's points, oldest first, one list for each of its curves: how they are drawn.
type Trend struct {
	// Time is when each point's span ended, in Unix seconds.
	Time []int64 `json:"time"`
	// Requests a second, by how they ended, and those of them that a fallback answered.
	Success   []Reading `json:"success"`
	Failure   []Reading `json:"failure"`
	Rejected  []Reading `json:"rejected"`
	Cancelled []Reading `json:"cancelled"`
	Fallbacks []Reading `json:"fallbacks"`
	// P50, P95 and P99 are response times in seconds; null where nothing was asked of the upstream.
	P50 []Reading `json:"p50"`
	P95 []Reading `json:"p95"`
	P99 []Reading `json:"p99"`
}

// Reading is a number that JSON shows as null if it is none.
type Reading float32

// MarshalJSON writes as many digits as a picture shows.
func (r Reading) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(r)) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(r), 'g', 5, 32), nil
}

// since returns the points after the given time.
func (s *trend) since(after int64) Trend {
	var t Trend
	t.Time = []int64{}
	curves := []*[]Reading{&t.Success, &t.Failure, &t.Rejected, &t.Cancelled, &t.Fallbacks, &t.P50, &t.P95, &t.P99}
	for _, curve := range curves {
		*curve = []Reading{}
	}
	for i := range s.points {
		p := s.points[(s.oldest+i)%len(s.points)]
		if p.time <= after {
			continue
		}
		t.Time = append(t.Time, p.time)
		for i, v := range []float32{p.success, p.failure, p.rejected, p.cancelled, p.fallbacks, p.p50, p.p95, p.p99} {
			*curves[i] = append(*curves[i], Reading(v))
		}
	}
	return t
}

// since returns the points of all services, or of the one that is named, after the given time.
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

// trends answers with the last hour, or with what came after a point that the client has.
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
	if _, ok := a.Proxy.Service(service); service != "" && !ok {
		faults = append(faults, "service: must be one that there is, got "+strconv.Quote(service))
	}
	if len(faults) > 0 {
		writeProblem(w, http.StatusBadRequest, "the query has faults", faults...)
		return
	}
	respond(w, http.StatusOK, map[string]any{"step": Seconds(trendStep), "services": a.Trends.since(after, service)})
}
