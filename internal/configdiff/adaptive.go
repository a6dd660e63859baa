package configdiff

import "fmt"

// adaptiveModes are the effects of the modes of breaker.adaptive.
var adaptiveModes = map[string]string{
	"off":    "Nothing is learnt, and unlikely failures do not open the breaker. What has been learnt is kept.",
	"shadow": "How often the upstream fails while it is healthy is learnt. Failures that are unlikely for that are only reported.",
	"enforce": "How often the upstream fails while it is healthy is learnt. Failures that are unlikely for that open the breaker, " +
		"earlier than fail_max and the algorithm.",
}

// adaptiveText describes a change of a key below breaker.adaptive.
func (g *Change) adaptiveText(key string) string {
	value := shortValue(g.New)
	switch key {
	case "mode":
		return adaptiveModes[value]
	case "false_alarm":
		return fmt.Sprintf("Failures are too unlikely for a healthy upstream from a probability of %s on: the smaller, the later the breaker opens.", value)
	case "min_ratio":
		return fmt.Sprintf("Unlikely failures open the breaker only if at least %s of the calls since they began have failed.", percent(g.New))
	case "min_calls":
		if value == "0" {
			return "Unlikely failures open the breaker after however few calls."
		}
		return fmt.Sprintf("Unlikely failures open the breaker only after %s calls since they began, or if a row of them suffices by itself.", value)
	case "floor":
		return fmt.Sprintf("A healthy upstream is assumed to fail at least %s of its calls, even if fewer have failed.", percent(g.New))
	case "cap":
		return fmt.Sprintf("Nothing is learnt from an hour in which more than %s of the calls have failed.", percent(g.New))
	case "warmup.calls":
		return fmt.Sprintf("Unlikely failures open the breaker only after %s calls have been learnt.", value)
	case "warmup.time":
		return fmt.Sprintf("Unlikely failures open the breaker only after calls have been learnt for %s.", value)
	}
	return ""
}
