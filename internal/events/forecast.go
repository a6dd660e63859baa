package events

import (
	"math"
	"time"
)

// ForecastWindow is a time before now over which a success ratio is computed.
type ForecastWindow struct {
	Name     string
	Duration time.Duration
}

// ForecastWindows lists every window.
var ForecastWindows = [...]ForecastWindow{{"1m", time.Minute}, {"5m", 5 * time.Minute}, {"1h", time.Hour}}

// ForecastHorizon is a time from now for which a prediction is made.
type ForecastHorizon struct {
	Name     string
	Duration time.Duration
}

// ForecastHorizons lists every horizon.
var ForecastHorizons = [...]ForecastHorizon{{"30s", 30 * time.Second}, {"5m", 5 * time.Minute}}

// Forecast is what was observed of the calls of a service, and what is predicted from that. Nothing acts on it. Values that are not known
// are NaN.
type Forecast struct {
	// Time is when the calls were sampled; zero if they have not been.
	Time time.Time
	// SuccessRatio is the share of successes of the requests to the upstream, by the index in ForecastWindows.
	SuccessRatio [len(ForecastWindows)]float64
	// Trend is the predicted change of the success ratio in the next minute.
	Trend float64
	// Predictions are by the index in ForecastHorizons.
	Predictions [len(ForecastHorizons)]Prediction
	// TimeToOpen is the time in seconds until the breaker opens if the prediction comes true, at most an hour; +Inf if it does not open.
	TimeToOpen float64
	// Missing is why there are no predictions, "" if there are.
	Missing ForecastMissing
}

// Prediction is what is predicted for one horizon, and how good earlier predictions for this horizon were.
type Prediction struct {
	SuccessRatio float64
	// Latency is the 95th percentile of the response times in seconds.
	Latency float64
	// SuccessRatioError and LatencyError compare the predictions with what came.
	SuccessRatioError, LatencyError ForecastError
}

// ForecastError has the mean absolute error of the predictions of the last hour, and that of the values of the minute before each of
// them, which predict that nothing changes.
type ForecastError struct{ Predicted, AsNow float64 }

// ForecastMissing is why there are no predictions.
type ForecastMissing string

// The reasons.
const (
	ForecastStarting  ForecastMissing = "starting"   // less than a minute, or 20 calls, since the start, a pause or the end of an opening
	ForecastFewCalls  ForecastMissing = "few_calls"  // less than 20 calls in the last 5 minutes
	ForecastNotClosed ForecastMissing = "not_closed" // the breaker is open or half-open, so that few calls reach the upstream
)

// NewForecast returns a forecast in which nothing is known.
func NewForecast(missing ForecastMissing) Forecast {
	f := Forecast{Missing: missing}
	for i := range f.SuccessRatio {
		f.SuccessRatio[i] = math.NaN()
	}
	for i := range f.Predictions {
		f.Predictions[i].SuccessRatioError = ForecastError{math.NaN(), math.NaN()}
		f.Predictions[i].LatencyError = ForecastError{math.NaN(), math.NaN()}
	}
	f.ClearPredictions(missing)
	return f
}

// ClearPredictions removes what is predicted, and keeps what was observed.
func (f *Forecast) ClearPredictions(missing ForecastMissing) {
	f.Missing, f.Trend, f.TimeToOpen = missing, math.NaN(), math.NaN()
	for i := range f.Predictions {
		f.Predictions[i].SuccessRatio, f.Predictions[i].Latency = math.NaN(), math.NaN()
	}
}
