package configdiff

import (
	"encoding/json"
	"fmt"
	"strings"

	"cbproxy/routes"
)

// text describes the effect of a change with its values; "" if the description of the key is enough.
func (g *Change) text() string {
	if g.Hidden {
		return ""
	}
	if len(g.services) > 0 && g.rest == "" {
		return g.routeText()
	}
	if name, ok := strings.CutPrefix(g.Key, "fallbacks."); ok && !strings.Contains(name, ".") {
		return g.fallbackText(name)
	}
	if key, ok := strings.CutPrefix(g.rest, "breaker."); ok {
		return g.breakerText(key)
	}
	value := shortValue(g.New)
	zero := value == "0"
	switch g.rest {
	case "listen":
		if value == `""` {
			return "The service has no own listener any more. Requests in flight on it finish."
		}
		return fmt.Sprintf("Every path on %s is forwarded to the service as it is. Requests in flight on a previous own listener finish.", value)
	case "prefix":
		if string(g.New) == "[]" {
			return "No prefix is routed to the service any more, only its own listener."
		}
		return fmt.Sprintf("Only requests under %s are routed to the service.", joinTexts(g.New))
	case "upstream":
		return g.upstreamText()
	case "timeout":
		return fmt.Sprintf("A request that takes longer than %s is aborted and counts as a failure.", value)
	case "max_in_flight":
		if zero {
			return "The number of requests in flight is not limited."
		}
		if value == "auto" {
			return "The limit on requests in flight is found, from 4 to 200: it begins with 10, grows while it is used and answers come, and shrinks with timeouts and overload. Further requests get the fallback."
		}
		return fmt.Sprintf("While %s requests are in flight, further requests get the fallback.", value)
	case "fallback_enabled":
		if value == "true" {
			return "While the upstream fails or the breaker rejects requests, clients get the fallback."
		}
		return "While the upstream fails or the breaker rejects requests, clients get an error (502, 503 or 504)."
	case "fallback_test":
		if value == "true" {
			return "A request with the field X-Fallback-Test: 1 gets the fallback, is not sent upstream and counts for nothing."
		}
		return "A request with the field X-Fallback-Test is forwarded like any other."
	case "retry.attempts":
		if zero {
			return "Failed attempts are not retried."
		}
		return fmt.Sprintf("A failed attempt is retried up to %s times, within the retry budget.", value)
	}
	return g.attemptText()
}

// routeText describes the effect of adding or removing a route.
func (g *Change) routeText() string {
	var route struct {
		Prefix   json.RawMessage
		Listen   string
		Upstream json.RawMessage
	}
	value := g.New
	if value == nil {
		value = g.Old
	}
	if json.Unmarshal(value, &route) != nil {
		return ""
	}
	requests := "under " + joinTexts(route.Prefix)
	if route.Listen != "" {
		requests = strings.TrimPrefix(requests+" and on "+route.Listen, "under  and ")
	}
	if g.New == nil {
		return fmt.Sprintf("Requests %s are no longer routed to an upstream. Those that match no other prefix get 404.", requests)
	}
	return fmt.Sprintf("Requests %s go to %s, through a new breaker.", requests, joinTexts(route.Upstream))
}

// fallbackText describes the effect of adding or removing a fallback, "" if it was changed.
func (g *Change) fallbackText(name string) string {
	if g.New == nil {
		return "Services that used it get their built-in fallback, or none."
	}
	if g.Old != nil {
		return ""
	}
	var fallback struct{ Try []string }
	if json.Unmarshal(g.New, &fallback) != nil {
		return routes.Describe(g.Key)
	}
	return fmt.Sprintf("Used by service %s and by services that reference it; tries %s.", name, strings.Join(fallback.Try, ", then "))
}

// joinTexts formats a text, or a list of texts such as prefixes, for a sentence.
func joinTexts(list json.RawMessage) string {
	var all []string
	if json.Unmarshal(list, &all) != nil {
		return shortValue(list)
	}
	return strings.Join(all, " and ")
}

// percent formats a ratio as a percentage.
func percent(value json.RawMessage) string {
	var n float64
	if json.Unmarshal(value, &n) != nil {
		return shortValue(value)
	}
	return percentOf(n)
}

// percentOf formats a ratio as a percentage, without the rounding error of its computation.
func percentOf(n float64) string { return fmt.Sprintf("%.6g %%", n*100) }
