package metrics

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"cbproxy/internal/events"
)

// The metrics of forecasts. Values that are not known have no sample.
var (
	successRatioDesc = prometheus.NewDesc("cbproxy_success_ratio",
		"Share of successes of the requests to the upstream within a time. No sample with fewer than 10 of them.", []string{"service", "window"}, nil)
	predictedRatioDesc = prometheus.NewDesc("cbproxy_success_ratio_predicted",
		"Success ratio that is predicted for a time from now. No sample, like for the other predictions, while the breaker is not closed or too few requests were made.", []string{"service", "horizon"}, nil)
	ratioTrendDesc = prometheus.NewDesc("cbproxy_success_ratio_trend",
		"Change of the success ratio that is predicted for the next minute.", []string{"service"}, nil)
	predictedLatencyDesc = prometheus.NewDesc("cbproxy_latency_predicted_seconds",
		"95th percentile of the response times that is predicted for a time from now.", []string{"service", "horizon"}, nil)
	timeToOpenDesc = prometheus.NewDesc("cbproxy_time_to_open_seconds",
		"Time until the circuit breaker opens if the prediction comes true; +Inf if it does not open within an hour. Nothing acts on it.", []string{"service"}, nil)
	predictionErrorDesc = prometheus.NewDesc("cbproxy_prediction_error",
		"Mean absolute error of the predicted success ratios of the last hour.", []string{"service", "horizon"}, nil)
	asNowErrorDesc = prometheus.NewDesc("cbproxy_prediction_error_as_now",
		"Mean absolute error in the last hour of the assumption that the success ratio of the last minute stays. Below cbproxy_prediction_error, the predictions are of no use.", []string{"service", "horizon"}, nil)
)

// forecastCollector reads the forecasts at each scrape.
type forecastCollector struct {
	forecasts func() map[string]events.Forecast
}

func (c *forecastCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{successRatioDesc, predictedRatioDesc, ratioTrendDesc, predictedLatencyDesc, timeToOpenDesc, predictionErrorDesc, asNowErrorDesc} {
		descs <- d
	}
}

func (c *forecastCollector) Collect(metrics chan<- prometheus.Metric) {
	for service, f := range c.forecasts() {
		gauge := func(d *prometheus.Desc, v float64, more ...string) {
			if !math.IsNaN(v) {
				metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{service}, more...)...)
			}
		}
		for i, w := range events.ForecastWindows {
			gauge(successRatioDesc, f.SuccessRatio[i], w.Name)
		}
		gauge(ratioTrendDesc, f.Trend)
		gauge(timeToOpenDesc, f.TimeToOpen)
		for i, h := range events.ForecastHorizons {
			p := &f.Predictions[i]
			gauge(predictedRatioDesc, p.SuccessRatio, h.Name)
			gauge(predictedLatencyDesc, p.Latency, h.Name)
			gauge(predictionErrorDesc, p.SuccessRatioError.Predicted, h.Name)
			gauge(asNowErrorDesc, p.SuccessRatioError.AsNow, h.Name)
		}
	}
}
