package statusview

import (
	"fmt"
	"time"
	"unicode/utf8"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"
)

// endpointsText says how many of a service's endpoints get requests; "" if it has only one.
func endpointsText(endpoints []admin.Endpoint) string {
	switch {
	case endpoints == nil: // an older proxy does not say it
		return ""
	case len(endpoints) == 0:
		return "none, DNS has not answered yet"
	case len(endpoints) == 1:
		return ""
	}
	in := 0
	for _, e := range endpoints {
		if e.State != events.EndpointEjected {
			in++
		}
	}
	return fmt.Sprintf("%d/%d in", in, len(endpoints))
}

// drawEndpoints writes a line with the number of endpoints, and one for each of them if there are several.
func drawEndpoints(endpoints []admin.Endpoint, paint Painter, now time.Time, line func(name, value string)) {
	line("endpoints", endpointsText(endpoints))
	if len(endpoints) < 2 {
		return
	}
	width := 0
	for _, e := range endpoints {
		width = max(width, utf8.RuneCountInString(endpointName(e)))
	}
	for _, e := range endpoints {
		text := fmt.Sprintf("%-*s  %s", width, endpointName(e), endpointText(e, now))
		if e.State == events.EndpointEjected {
			text = paint.paint(red, text)
		}
		line("", text)
	}
}

func endpointName(e admin.Endpoint) string { return sanitize.Short(e.URL, 100) }

// endpointText describes the state of an endpoint.
func endpointText(e admin.Endpoint, now time.Time) string {
	text := "in"
	if e.State == events.EndpointEjected {
		text = "ejected, until it answers a request"
		if e.Until != nil && e.Until.After(now) {
			text = "ejected for " + Age(e.Until.Sub(now))
		}
	}
	text += fmt.Sprintf(", %d in flight", e.InFlight)
	if e.FailCounter > 0 {
		text += fmt.Sprintf(", consecutive failures: %d", e.FailCounter)
	}
	if e.Ejections > 0 {
		text += fmt.Sprintf(", ejections: %d", e.Ejections)
	}
	if f := e.LastError; f != nil && e.State == events.EndpointEjected {
		text += sanitize.Short(fmt.Sprintf(", %s %s ago: %s", f.Type, Age(now.Sub(f.Time)), f.Detail), 200)
	}
	return text
}
