package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"cbproxy/routes"
)

// text describes the effect of a change with its values; "" if the description of the key is enough.
func (g *changeGroup) text() string {
	if g.Hidden {
		return ""
	}
	if len(g.services) > 0 && g.rest == "" {
		return g.routeText()
	}
	if name, ok := strings.CutPrefix(g.Key, "fallbacks."); ok && !strings.Contains(name, ".") {
		return g.fallbackText(name)
	}
	value := shortValue(g.New)
	zero := value == "0"
	switch g.rest {
	case "prefix":
		return fmt.Sprintf("Requests under %s reach the service, and under nothing else.", prefixes(g.New))
	case "upstream":
		return fmt.Sprintf("Requests that come from now on go to %s; those under way end where they are. The breaker keeps its state and its counts.", value)
	case "timeout":
		return fmt.Sprintf("An exchange that takes longer than %s is cut off and counts as a failure.", value)
	case "max_in_flight":
		if zero {
			return "Any number of requests may be in flight."
		}
		return fmt.Sprintf("Requests beyond %s in flight are answered by the fallback.", value)
	case "fallback_enabled":
		if value == "true" {
			return "When the upstream can't answer, the fallback does."
		}
		return "When the upstream can't answer, clients get an error (502, 503 or 504)."
	case "retry.attempts":
		if zero {
			return "Nothing is retried."
		}
		return fmt.Sprintf("A failed attempt is repeated up to %s times, as far as the budget allows.", value)
	case "breaker.mode":
		return modeEffects[value]
	case "breaker.fail_max":
		if zero {
			return "Failures in a row do not open the breaker."
		}
		return fmt.Sprintf("The breaker opens after %s failures in a row.", value)
	case "breaker.failure_ratio":
		if zero {
			return "No share of failures opens the breaker."
		}
		return fmt.Sprintf("The breaker opens once %s of the calls in its window have failed.", share(g.New))
	case "breaker.slow_call_ratio":
		if zero {
			return "Slow calls do not open the breaker."
		}
		return fmt.Sprintf("The breaker opens once %s of the calls in its window were slow.", share(g.New))
	case "breaker.recovery_timeout":
		return fmt.Sprintf("The breaker is open for %s before it probes; an opening under way is as long.", value)
	case "breaker.half_open_requests":
		return fmt.Sprintf("Up to %s probes at once, and as many successes in a row close the breaker.", value)
	}
	return ""
}

var modeEffects = map[string]string{
	"enforce": "The breaker refuses requests while it is open.",
	"shadow":  "The breaker goes on deciding and refuses nothing: what it would have refused is counted.",
	"off":     "The breaker looks at nothing and refuses nothing.",
}

func (g *changeGroup) routeText() string {
	var route struct {
		Prefix   json.RawMessage
		Upstream string
	}
	of := g.New
	if of == nil {
		of = g.Old
	}
	if json.Unmarshal(of, &route) != nil {
		return ""
	}
	if g.New == nil {
		return fmt.Sprintf("Requests under %s reach no upstream any more; where no other prefix fits they are answered with 404.", prefixes(route.Prefix))
	}
	return fmt.Sprintf("Requests under %s go to %s, through a breaker of their own.", prefixes(route.Prefix), route.Upstream)
}

func (g *changeGroup) fallbackText(name string) string {
	if g.New == nil {
		return "Services that used it have what is built in, or no fallback."
	}
	if g.Old != nil {
		return ""
	}
	var fallback struct{ Try []string }
	if json.Unmarshal(g.New, &fallback) != nil {
		return routes.Describe(g.Key)
	}
	return fmt.Sprintf("Answers for service %s, and others that name it, by %s.", name, strings.Join(fallback.Try, ", then "))
}

// prefixes formats a list of prefixes for a sentence.
func prefixes(list json.RawMessage) string {
	var all []string
	if json.Unmarshal(list, &all) != nil {
		return shortValue(list)
	}
	return strings.Join(all, " and ")
}

func share(value json.RawMessage) string {
	var n float64
	if json.Unmarshal(value, &n) != nil {
		return shortValue(value)
	}
	return fmt.Sprintf("%g %%", n*100)
}
