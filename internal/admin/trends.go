package admin

import (
	"fmt"
	"net/http"
	"strconv"

	"cbproxy/internal/trends"
)

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
	respond(w, http.StatusOK, map[string]any{"step": Seconds(trends.Interval), "services": a.Trends.Since(after, service)})
}
