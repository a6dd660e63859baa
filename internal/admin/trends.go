package admin

import (
	"fmt"
	"net/http"
	"strconv"

	"cbproxy/internal/trends"
)

// serviceTrends are the points of the last hour of a service, and what is predicted from them.
type serviceTrends struct {
	trends.Trend
	Forecast Forecast `json:"forecast"`
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
	services := map[string]serviceTrends{}
	for name, trend := range a.Trends.Since(after, service) {
		forecast, _ := a.Backend.Forecast(name) // of a service that has just been removed, nothing is known
		services[name] = serviceTrends{trend, newForecast(&forecast)}
	}
	respond(w, http.StatusOK, map[string]any{"step": Seconds(trends.Interval), "services": services})
}
