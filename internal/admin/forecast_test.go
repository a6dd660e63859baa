package admin_test

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

func TestForecastResponse(t *testing.T) {
	known := events.Forecast{
		Time: time.Unix(1700000000, 0), SuccessRatio: [3]float64{0.9, 0.95, 1.0 / 3}, Trend: -0.25, TimeToOpen: 90.5,
		Predictions: [2]events.Prediction{
			{SuccessRatio: 0.8, Latency: 0.25, SuccessRatioError: events.ForecastError{Predicted: 0.01, AsNow: 0.02}, LatencyError: events.ForecastError{Predicted: 1, AsNow: 2}},
			{SuccessRatio: 0.5, Latency: 0.5, SuccessRatioError: events.ForecastError{Predicted: 0.03, AsNow: 0.04}, LatencyError: events.ForecastError{Predicted: 3, AsNow: 4}},
		},
	}
	notOnItsWay := known
	notOnItsWay.TimeToOpen = math.Inf(1)
	const prediction = `{"success_ratio":null,"error":null,"error_as_now":null,"latency_p95":null,"latency_error":null,"latency_error_as_now":null}`
	for name, test := range map[string]struct {
		forecast events.Forecast
		want     string // a part of the response
	}{
		"known": {known, `{"time":"2023-11-14T22:13:20Z","success_ratio":{"1h":0.33333,"1m":0.9,"5m":0.95},"trend":-0.25,"predictions":{` +
			`"30s":{"success_ratio":0.8,"error":0.01,"error_as_now":0.02,"latency_p95":0.25,"latency_error":1,"latency_error_as_now":2},` +
			`"5m":{"success_ratio":0.5,"error":0.03,"error_as_now":0.04,"latency_p95":0.5,"latency_error":3,"latency_error_as_now":4}},"time_to_open":90.5,"reason":null}`},
		"not on its way": {notOnItsWay, `"time_to_open":null,"reason":null}`},
		"nothing is known": {events.NewForecast(events.ForecastFewCalls), `{"time":null,"success_ratio":{"1h":null,"1m":null,"5m":null},"trend":null,` +
			`"predictions":{"30s":` + prediction + `,"5m":` + prediction + `},"time_to_open":null,"reason":"few_calls"}`},
	} {
		h, _ := handler(&fakeBackend{forecast: test.forecast})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/api/v1/circuit-breakers/svc/forecast", nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s: %d %s, want %s", name, w.Code, w.Body, test.want)
		}
	}
}
