package trends_test

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/trends"
)

// source has the totals that a test samples. It must be used in a bubble of synctest.
type source struct {
	t *testing.T
	*trends.Trends

	mu     sync.Mutex
	totals map[string]trends.Totals // guarded by mu; replaced and not modified
	steps  map[string]trends.Step   // of the last sample; guarded by mu
}

// start begins to sample the totals of the services, with buckets up to 0.1 s, up to 1 s and above. The result ends that.
func start(t *testing.T, totals map[string]trends.Totals) (s *source, stop func()) {
	s = &source{t: t, totals: map[string]trends.Totals{}}
	for name, next := range totals {
		s.set(name, next)
	}
	s.Trends = trends.New(s.current, s.observe)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	synctest.Wait()
	return s, func() { cancel(); <-done }
}

// set sets the totals of a service.
func (s *source) set(name string, next trends.Totals) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next.Bounds = []float64{.1, 1}
	s.totals = maps.Clone(s.totals)
	s.totals[name] = next
}

// keepOnly removes all services but one.
func (s *source) keepOnly(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals = map[string]trends.Totals{name: s.totals[name]}
}

func (s *source) current() map[string]trends.Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totals
}

func (s *source) observe(steps map[string]trends.Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = steps
}

// last returns the steps of the last sample.
func (s *source) last() map[string]trends.Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.steps
}

// step awaits the next sample.
func (s *source) step() {
	time.Sleep(trends.Interval)
	synctest.Wait()
}

// curves are a Trend as a client of the API decodes it.
type curves struct {
	Time                                             []int64
	Success, Failure, Rejected, Cancelled, Fallbacks []float64
	P50, P95, P99                                    []*float64
}

// since returns the points after a time, of one service or of all.
func (s *source) since(after int64, service string) (services map[string]curves) {
	s.t.Helper()
	text, err := json.Marshal(s.Since(after, service))
	if err == nil {
		err = json.Unmarshal(text, &services)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return services
}

func TestTrendsContainRatesAndQuantilesOfLastHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := start(t, map[string]trends.Totals{
			"svc":   {Success: 1000, Durations: []uint64{500, 900, 1000}},
			"other": {Durations: []uint64{0, 0, 0}},
		})
		defer stop()
		begin := time.Now().Unix()

		// 100 requests: 50 up to 0.1 s, 40 up to 1 s, 10 longer.
		s.set("svc", trends.Totals{Success: 1050, Failure: 5, Rejected: 10, Cancelled: 15, Fallbacks: 20, Durations: []uint64{550, 990, 1100}})
		s.step()
		s.step() // without requests
		all := s.since(0, "")
		at := func(v float64) *float64 { return &v }
		if want := (curves{
			Time: []int64{begin + 5, begin + 10}, Success: []float64{10, 0}, Failure: []float64{1, 0}, Rejected: []float64{2, 0}, Cancelled: []float64{3, 0},
			Fallbacks: []float64{4, 0}, P50: []*float64{at(.1), nil}, P95: []*float64{at(1), nil}, P99: []*float64{at(1), nil},
		}); !reflect.DeepEqual(all["svc"], want) {
			got, _ := json.Marshal(all["svc"])
			t.Errorf("got %s", got)
		}
		if len(all) != 2 || len(all["other"].Time) != 2 {
			t.Errorf("services: %v", all)
		}

		// 10 requests up to 0.1 s, for which quantiles are interpolated. Then the service is removed and added again.
		s.set("svc", trends.Totals{Success: 1060, Failure: 5, Rejected: 10, Cancelled: 15, Fallbacks: 20, Durations: []uint64{560, 1000, 1110}})
		s.step()
		s.set("svc", trends.Totals{Success: 5, Durations: []uint64{5, 5, 5}})
		s.step()
		got := s.since(begin+10, "svc")["svc"]
		if len(got.Time) != 2 || *got.P50[0] != .05 || *got.P99[0] != .099 || got.Success[1] != 1 || *got.P50[1] != .05 {
			text, _ := json.Marshal(got)
			t.Errorf("got %s", text)
		}

		s.keepOnly("svc")
		for range 800 {
			s.step()
		}
		all = s.since(0, "")
		times := all["svc"].Time
		if len(all) != 1 || len(times) != 720 || times[719] != time.Now().Unix() || times[719]-times[0] != 3595 {
			t.Errorf("after more than an hour: %d services, %d points", len(all), len(times))
		}
	})
}

func TestStepsAreIncreasesOfTotals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := start(t, map[string]trends.Totals{"svc": {Success: 7, Durations: []uint64{1, 4, 7}}})
		defer stop()
		if len(s.last()) != 0 {
			t.Errorf("after the first sample: %v", s.last())
		}
		for _, c := range []struct {
			name      string
			total     trends.Totals
			success   uint64
			failure   uint64
			durations []uint64
		}{
			{"calls", trends.Totals{Success: 17, Failure: 2, Durations: []uint64{3, 9, 19}}, 10, 2, []uint64{2, 5, 12}},
			{"no calls", trends.Totals{Success: 17, Failure: 2, Durations: []uint64{3, 9, 19}}, 0, 0, []uint64{0, 0, 0}},
			{"reset", trends.Totals{Success: 4, Failure: 1, Durations: []uint64{5, 5, 5}}, 4, 1, []uint64{5, 5, 5}},
		} {
			s.set("svc", c.total)
			s.step()
			got, ok := s.last()["svc"]
			if !ok || got.Success != c.success || got.Failure != c.failure || !slices.Equal(got.Durations, c.durations) ||
				got.Elapsed != 5*time.Second || !got.Time.Equal(time.Now()) || len(got.Bounds) != 2 {
				t.Errorf("%s: %+v", c.name, got)
			}
		}
		s.set("new", trends.Totals{Success: 100})
		s.step()
		if _, ok := s.last()["new"]; ok || len(s.last()) != 1 {
			t.Errorf("a service without an earlier sample: %v", s.last())
		}
		s.keepOnly("new")
		s.step()
		if _, ok := s.last()["new"]; !ok || len(s.last()) != 1 {
			t.Errorf("after svc was removed: %v", s.last())
		}
	})
}

func TestCountsSumPointsOfWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := start(t, map[string]trends.Totals{"svc": {}})
		defer stop()
		for i := range uint64(1000) {
			s.set("svc", trends.Totals{Success: 2 * i, Failure: i})
			s.step()
		}
		for window, points := range map[time.Duration]uint64{time.Minute: 12, 5 * time.Minute: 60, time.Hour: 720, 2 * time.Hour: 720} {
			if success, failure := s.Counts("svc", window); success != 2*points || failure != points {
				t.Errorf("%v: %d, %d", window, success, failure)
			}
		}
		if success, failure := s.Counts("none", time.Hour); success+failure != 0 {
			t.Errorf("an unknown service: %d, %d", success, failure)
		}
	})
}
