package admin

import (
	"net/http"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/trends"
)

// Forecast is the API's form of a forecast. Values that are not known are null.
type Forecast struct {
	Time         *time.Time                      `json:"time"`
	SuccessRatio map[string]trends.NullableFloat `json:"success_ratio"` // by the name of the window
	Trend        trends.NullableFloat            `json:"trend"`
	Predictions  map[string]Prediction           `json:"predictions"` // by the name of the horizon
	// TimeToOpen is in seconds; null also if the breaker is not on its way to open.
	TimeToOpen trends.NullableFloat `json:"time_to_open"`
	// Reason is why there are no predictions; null if there are.
	Reason *events.ForecastMissing `json:"reason"`
}

// Prediction is what is predicted for one horizon.
type Prediction struct {
	SuccessRatio      trends.NullableFloat `json:"success_ratio"`
	Error             trends.NullableFloat `json:"error"`
	ErrorAsNow        trends.NullableFloat `json:"error_as_now"`
	LatencyP95        trends.NullableFloat `json:"latency_p95"`
	LatencyError      trends.NullableFloat `json:"latency_error"`
	LatencyErrorAsNow trends.NullableFloat `json:"latency_error_as_now"`
}

// newForecast returns the API's form of f.
func newForecast(f *events.Forecast) Forecast {
	response := Forecast{
		Time: TimeOrNil(f.Time), SuccessRatio: map[string]trends.NullableFloat{}, Trend: trends.NullableFloat(f.Trend),
		Predictions: map[string]Prediction{}, TimeToOpen: trends.NullableFloat(f.TimeToOpen),
	}
	if f.Missing != "" {
		response.Reason = &f.Missing
	}
	for i, w := range events.ForecastWindows {
		response.SuccessRatio[w.Name] = trends.NullableFloat(f.SuccessRatio[i])
	}
	for i, h := range events.ForecastHorizons {
		p := &f.Predictions[i]
		response.Predictions[h.Name] = Prediction{
			SuccessRatio: trends.NullableFloat(p.SuccessRatio), LatencyP95: trends.NullableFloat(p.Latency),
			Error: trends.NullableFloat(p.SuccessRatioError.Predicted), ErrorAsNow: trends.NullableFloat(p.SuccessRatioError.AsNow),
			LatencyError: trends.NullableFloat(p.LatencyError.Predicted), LatencyErrorAsNow: trends.NullableFloat(p.LatencyError.AsNow),
		}
	}
	return response
}

func (a *api) forecast(w http.ResponseWriter, r *http.Request) {
	f, ok := a.Backend.Forecast(r.PathValue("service"))
	if !ok {
		unknownService(w, r)
		return
	}
	respond(w, http.StatusOK, newForecast(&f))
}
