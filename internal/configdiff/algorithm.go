package configdiff

import (
	"encoding/json"
	"fmt"
	"strings"
)

// algorithmOptions are the options that optionText describes, by algorithm.
var algorithmOptions = map[string][]string{
	"count":      {"calls"},
	"throttle":   {"success_ratio", "aggression", "max_rejection", "min_rps"},
	"budget":     {"objective", "burn_rate", "short", "long"},
	"expression": {"open_when"},
}

// algorithmText describes a change of an algorithm's options, of which key is all or one; "" if the algorithm is another one, which
// others have registered.
func (g *Change) algorithmText(key string) string {
	algorithm, option, one := strings.Cut(key, ".")
	switch {
	case algorithmOptions[algorithm] == nil:
		return ""
	case one:
		return optionText(algorithm, option, g.New)
	case g.New == nil:
		return fmt.Sprintf("The algorithm %s is not used any more.", algorithm)
	}
	var values map[string]json.RawMessage
	if json.Unmarshal(g.New, &values) != nil {
		return ""
	}
	var texts []string
	for _, option := range algorithmOptions[algorithm] {
		texts = append(texts, optionText(algorithm, option, values[option]))
	}
	return strings.Join(texts, " ")
}

// optionText describes the effect of an algorithm's option; "" if its description is enough.
func optionText(algorithm, option string, value json.RawMessage) string {
	text := shortValue(value)
	var n float64 // 0 if the value is no number
	_ = json.Unmarshal(value, &n)
	switch algorithm + "." + option {
	case "count.calls":
		return fmt.Sprintf("failure_ratio and slow_call_ratio apply to the last %s calls.", text)
	case "throttle.success_ratio":
		return fmt.Sprintf("Requests are rejected while fewer than %s of those in window, rejected ones included, succeed.", percent(value))
	case "throttle.aggression":
		if n == 1 {
			return "The share that is rejected is that of the formula."
		}
		difference := "more"
		if n < 1 {
			difference = "less"
		}
		return fmt.Sprintf("The share that is rejected is that of the formula to the power of 1/%s, which is %s.", text, difference)
	case "throttle.max_rejection":
		if n == 0 {
			return "No request is rejected."
		}
		return fmt.Sprintf("At most %s of the requests are rejected, and one a second is always let through.", percent(value))
	case "throttle.min_rps":
		if n == 0 {
			return "Requests are rejected at any rate."
		}
		return fmt.Sprintf("Below %s requests per second none is rejected.", text)
	case "budget.objective":
		return fmt.Sprintf("The error budget is %s of the calls.", percentOf(1-n))
	case "budget.burn_rate":
		return fmt.Sprintf("The breaker opens when the share of failures is at least %s times the error budget, in both windows.", text)
	case "budget.short":
		return fmt.Sprintf("The short window is %s; at least min_requests calls have to be in it.", text)
	case "budget.long":
		return fmt.Sprintf("The long window is %s.", text)
	case "expression.open_when":
		return "The breaker opens if the expression is true after a call."
	}
	return ""
}
