package configdiff

import (
	"fmt"
	"strings"

	"cbproxy/internal/sanitize"
)

// upstreamText describes the effect of another upstream.
func (g *Change) upstreamText() string {
	to := sanitize.Short(joinTexts(g.New), maxValueLength)
	isList := strings.HasPrefix(string(g.Old), "[") || strings.HasPrefix(string(g.New), "[")
	if !isList {
		return fmt.Sprintf("New requests go to %s; requests in flight finish at the old upstream. The breaker keeps its state and counts.", to)
	}
	return fmt.Sprintf("New requests go to %s; requests in flight finish where they are. "+
		"Endpoints that stay keep their connections, and the breaker keeps its state and counts.", to)
}

// attemptText describes the effect of a change of a key that says where and when attempts are sent, or how long they may take; "" if the
// description of the key is enough.
func (g *Change) attemptText() string {
	value := shortValue(g.New)
	off := value == "0" || value == "0s"
	switch g.rest {
	case "balance.policy":
		if value == "round_robin" {
			return "Requests go to the endpoints one after the other."
		}
		return "A request goes to the endpoint with the fewest attempts in flight."
	case "balance.eject.fail_max":
		if off {
			return "No endpoint is ejected. Those that are ejected get requests again."
		}
		return fmt.Sprintf("An endpoint is ejected after %s consecutive failures, if there are others.", value)
	case "balance.eject.time":
		return fmt.Sprintf("An endpoint that is ejected gets no requests for %s, and longer if it fails again. An ejection in progress keeps its end.", value)
	case "balance.eject.max_ratio":
		if off {
			return "No endpoint is ejected."
		}
		return fmt.Sprintf("At most %s of the endpoints, rounded up, are ejected at once, but never all of them.", percent(g.New))
	case "attempt_timeout":
		if off {
			return "An attempt has no time limit of its own, only timeout."
		}
		return fmt.Sprintf("An attempt that takes longer than %s is aborted, and may be retried within timeout.", value)
	case "hedge.after":
		if off {
			return "A request that has no response yet gets no second attempt."
		}
		return fmt.Sprintf("If a request that may be retried has no response after %s, a second attempt is sent; the response that comes first is used.", value)
	case "stream.first_event_timeout":
		if off {
			return "Between its response headers and its first event, a stream has no time limit but idle_timeout."
		}
		return fmt.Sprintf("A stream that has delivered nothing %s after its response headers is cut and counts as a failure.", value)
	case "stream.min_bytes_per_second":
		if off {
			return "A stream is not cut because of its rate, only by idle_timeout."
		}
		return fmt.Sprintf("A stream that delivers less than %s bytes per second is cut and counts as a failure.", value)
	}
	return ""
}

// byText describes the effect of another field whose values have breakers.
func byText(value string) string {
	if value == `""` {
		return "All requests are judged by the service's breaker alone."
	}
	return fmt.Sprintf("Requests with the field %s are judged by a breaker of its value, too. These breakers begin closed.", value)
}
