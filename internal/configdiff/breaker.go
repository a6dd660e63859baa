package configdiff

import (
	"fmt"
	"strings"
)

// breakerText describes the effect of a change of a breaker's key; "" if the description of the key is enough.
func (g *Change) breakerText(key string) string {
	value := shortValue(g.New)
	zero := value == "0"
	switch key {
	case "mode":
		return modeEffects[value]
	case "algorithm":
		return algorithmEffects[value] +
			"The breaker keeps its state, and the algorithm begins to count; an open breaker uses it once it has closed."
	case "fail_max":
		if zero {
			return "Consecutive failures do not open the breaker."
		}
		return fmt.Sprintf("The breaker opens after %s consecutive failures.", value)
	case "failure_ratio":
		if zero {
			return "The failure ratio does not open the breaker."
		}
		return g.ratioText("have failed")
	case "slow_call_ratio":
		if zero {
			return "Slow calls do not open the breaker."
		}
		return g.ratioText("were slow")
	case "slow_call_duration":
		return g.slowCallDurationText(value)
	case "min_requests":
		return g.minRequestsText(value)
	case "window":
		return g.windowText(value)
	case "recovery_timeout":
		return fmt.Sprintf("The breaker stays open for %s before it probes the upstream. "+
			"This also applies if it is open now, except by a Retry-After.", value)
	case "recovery_ramp":
		if value == "0s" {
			return "A breaker that closes sends all requests to the upstream at once. A recovery in progress ends now."
		}
		return fmt.Sprintf("For %s after the breaker has closed, a growing share of the requests is sent to the upstream; "+
			"the others get the fallback with reason recovering, or 503. This also applies if the breaker has closed within the last %s.", value, value)
	case "half_open_requests":
		return fmt.Sprintf("A half-open breaker admits up to %s probes at once, and closes after as many consecutive successes.", value)
	case "failure_when":
		if value == `""` {
			return "Responses are no failures because of their content."
		}
		return "A response whose status is no failure counts as one of type expression if this is true. " +
			"It is forwarded, unless when of the fallback has status."
	case "by.header":
		return byText(value)
	case "ignore_statuses":
		if value == "[]" {
			return "No status is ignored."
		}
		return "Responses with these statuses are forwarded and count neither as successes nor as failures, even if failure_statuses has them."
	case "retry_after.statuses", "retry_after.after", "retry_after.max":
		return retryAfterText(key, value)
	}
	if adaptive, ok := strings.CutPrefix(key, "adaptive."); ok {
		return g.adaptiveText(adaptive)
	}
	return g.algorithmText(key)
}

// modeEffects are the effects of the breaker modes.
var modeEffects = map[string]string{
	"enforce": "The breaker rejects requests while it is open.",
	"shadow":  "The breaker changes its state as usual but rejects nothing; the requests that it would have rejected are counted.",
	"off":     "The breaker neither counts calls nor rejects requests.",
}

// algorithmEffects are the effects of the algorithms, each with a space at its end. There are none for an algorithm that others have
// registered.
var algorithmEffects = map[string]string{
	"ratio": "Beside fail_max, failure_ratio and slow_call_ratio open the breaker, over window. ",
	"count": "Beside fail_max, failure_ratio and slow_call_ratio open the breaker, over the last count.calls calls, " +
		"however long ago they were. ",
	"budget":     "Beside fail_max, failures that use up the error budget too fast open the breaker. ",
	"expression": "Beside fail_max, expression.open_when opens the breaker if it is true after a call. ",
	"throttle": "Only fail_max opens the breaker. While it is closed, a share of the requests that grows as fewer succeed " +
		"gets the fallback with reason throttled, or 503. ",
}

// ratioText describes a ratio of calls that open the breaker. did is what they did.
func (g *Change) ratioText(did string) string {
	calls := "the calls in its window"
	switch g.algorithm {
	case "ratio":
	case "count":
		calls = "the last count.calls calls"
	case "budget", "expression", "throttle":
		return g.noEffect()
	default:
		return ""
	}
	return fmt.Sprintf("The breaker opens when %s of %s %s.", percent(g.New), calls, did)
}

func (g *Change) slowCallDurationText(value string) string {
	switch {
	case g.algorithm == "budget", g.algorithm == "throttle":
		return g.noEffect()
	case value == "auto":
		return "A call is slow from three times the p99 of healthy calls on, which the breaker learns: at least 100ms, and at most 0.8 of timeout. " +
			"Until enough is learnt it is slow from 5s on, or from 0.8 of timeout."
	}
	return fmt.Sprintf("A call is slow from %s on.", value)
}

// noEffect is the text of a key that the algorithm does not use.
func (g *Change) noEffect() string {
	return fmt.Sprintf("It has no effect: the algorithm %s does not use it.", g.algorithm)
}

func (g *Change) minRequestsText(value string) string {
	switch g.algorithm {
	case "ratio":
		return fmt.Sprintf("failure_ratio and slow_call_ratio open the breaker only if at least %s calls are in its window.", value)
	case "count":
		return fmt.Sprintf("failure_ratio and slow_call_ratio open the breaker only after at least %s calls.", value)
	case "budget":
		return fmt.Sprintf("The burn rate opens the breaker only if at least %s calls are in budget.short.", value)
	case "throttle", "expression":
		return g.noEffect()
	}
	return ""
}

func (g *Change) windowText(value string) string {
	switch g.algorithm {
	case "ratio":
		return fmt.Sprintf("failure_ratio and slow_call_ratio apply to the calls of the last %s.", value)
	case "throttle":
		return fmt.Sprintf("The share of throttled requests depends on the requests of the last %s.", value)
	case "expression":
		return fmt.Sprintf("expression.open_when knows the calls of the last %s.", value)
	case "count", "budget":
		return g.noEffect()
	}
	return ""
}

func retryAfterText(key, value string) string {
	switch {
	case key == "retry_after.max":
		return fmt.Sprintf("A Retry-After keeps the breaker open for at most %s. An opening in progress keeps its end.", value)
	case key == "retry_after.statuses" && value == "[]":
		return "No Retry-After opens the breaker."
	case key == "retry_after.statuses":
		return "The Retry-After of responses with these statuses may open the breaker, see retry_after.after; " +
			"such responses are no failures then."
	case value == "0":
		return "A Retry-After does not open the breaker; the status of its response counts as usual. " +
			"An opening in progress keeps its end."
	case value == "1":
		return "A response with one of retry_after.statuses and a Retry-After opens the breaker until the time that it names. " +
			"It is forwarded, and is no failure."
	}
	return fmt.Sprintf("%s consecutive responses with one of retry_after.statuses and a Retry-After open the breaker until the latest time that they name. "+
		"They are forwarded, and are no failures.", value)
}
