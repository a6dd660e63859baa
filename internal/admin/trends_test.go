package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
)

// curves is the trend of a service in a response.
type curves struct {
	Time                                             []int64
	Success, Failure, Rejected, Cancelled, Fallbacks []float64
	P50, P95, P99                                    []*float64
}

// getTrends requests the trends with the given query.
func getTrends(t *testing.T, h http.Handler, query string) (services map[string]curves) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/trends"+query, nil))
	var answer struct {
		Step     float64
		Services map[string]curves
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 || answer.Step != 5 {
		t.Fatalf("status %d, %v: %s", w.Code, err, w.Body)
	}
	return answer.Services
}

func TestTrendsContainRatesAndQuantilesOfLastHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		totals := map[string]admin.Totals{}
		set := func(name string, next admin.Totals) {
			mu.Lock()
			defer mu.Unlock()
			next.Bounds = []float64{.1, 1}
			totals[name] = next
		}
		trends := admin.NewTrends(func() map[string]admin.Totals {
			mu.Lock()
			defer mu.Unlock()
			all := map[string]admin.Totals{}
			for name, next := range totals {
				all[name] = next
			}
			return all
		})
		h := admin.New(admin.Config{Backend: &fakeBackend{}, Bus: new(events.Bus), Trends: trends, Metrics: http.NotFoundHandler(), Logger: slog.New(slog.DiscardHandler)})
		step := func() {
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		set("svc", admin.Totals{Success: 1000, Durations: []uint64{500, 900, 1000}})
		set("other", admin.Totals{Durations: []uint64{0, 0, 0}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { trends.Run(ctx); close(done) }()
		synctest.Wait()
		start := time.Now().Unix()

		// 100 requests: 50 up to 0.1 s, 40 up to 1 s, 10 longer.
		set("svc", admin.Totals{Success: 1050, Failure: 5, Rejected: 10, Cancelled: 15, Fallbacks: 20, Durations: []uint64{550, 990, 1100}})
		step()
		step() // without requests
		all := getTrends(t, h, "")
		at := func(v float64) *float64 { return &v }
		if want := (curves{
			Time: []int64{start + 5, start + 10}, Success: []float64{10, 0}, Failure: []float64{1, 0}, Rejected: []float64{2, 0}, Cancelled: []float64{3, 0},
			Fallbacks: []float64{4, 0}, P50: []*float64{at(.1), nil}, P95: []*float64{at(1), nil}, P99: []*float64{at(1), nil},
		}); !reflect.DeepEqual(all["svc"], want) {
			got, _ := json.Marshal(all["svc"])
			t.Errorf("got %s", got)
		}
		if len(all) != 2 || len(all["other"].Time) != 2 {
			t.Errorf("services: %v", all)
		}

		// 10 requests up to 0.1 s, for which quantiles are interpolated. Then the service is removed and added again.
		set("svc", admin.Totals{Success: 1060, Failure: 5, Rejected: 10, Cancelled: 15, Fallbacks: 20, Durations: []uint64{560, 1000, 1110}})
		step()
		set("svc", admin.Totals{Success: 5, Durations: []uint64{5, 5, 5}})
		step()
		got := getTrends(t, h, fmt.Sprint("?service=svc&after=", start+10))["svc"]
		if len(got.Time) != 2 || *got.P50[0] != .05 || *got.P99[0] != .099 || got.Success[1] != 1 || *got.P50[1] != .05 {
			text, _ := json.Marshal(got)
			t.Errorf("got %s", text)
		}

		mu.Lock()
		delete(totals, "other")
		mu.Unlock()
		for range 800 {
			step()
		}
		all = getTrends(t, h, "")
		times := all["svc"].Time
		if len(all) != 1 || len(times) != 720 || times[719] != time.Now().Unix() || times[719]-times[0] != 3595 {
			t.Errorf("after more than an hour: %d services, %d points", len(all), len(times))
		}
		cancel()
		<-done
	})
}

func TestTrendsRejectInvalidQuery(t *testing.T) {
	h, _ := handler(&fakeBackend{})
	for _, query := range []string{"?after=now", "?after=1.5", "?service=none"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/trends"+query, nil))
		if w.Code != 400 || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: status %d: %s", query, w.Code, w.Body)
		}
	}
}
