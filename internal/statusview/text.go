package statusview

import (
	"fmt"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"
)

// faultsText describes the faults that are injected into a service's requests; "" if there are none.
func faultsText(faults []events.Fault, now time.Time) string {
	switch len(faults) {
	case 0: // an older proxy does not say it either
		return ""
	case 1:
		return FaultText(faults[0], now)
	}
	return fmt.Sprintf("%s, and %d more", FaultText(faults[0], now), len(faults)-1)
}

// FaultText describes a fault.
func FaultText(f events.Fault, now time.Time) string {
	text := fmt.Sprintf("%s: %s into %s", sanitize.Printable(f.ID), FaultKindText(f), Percent(f.Share))
	if match := MatchText(f.Match); match != "" {
		text += " with " + match
	}
	text += " for " + Age(f.Until.Sub(now))
	if f.Reason != "" {
		text += ": " + sanitize.Short(f.Reason, 40)
	}
	return text
}

// FaultKindText returns the kind of a fault with its setting.
func FaultKindText(f events.Fault) string {
	kind := sanitize.Printable(string(f.Kind))
	switch {
	case f.Status != 0:
		return fmt.Sprintf("%s %d", kind, f.Status)
	case f.Delay != 0:
		return kind + " " + f.Delay.String()
	}
	return kind
}

func MatchText(m *events.FaultMatch) string {
	switch {
	case m == nil:
		return ""
	case m.Value == "":
		return sanitize.Short(m.Header, 40)
	}
	return sanitize.Short(m.Header+": "+m.Value, 40)
}

// percent returns a share in percent.
func Percent(share float64) string { return fmt.Sprintf("%.4g %%", 100*share) }

// Age formats a duration with at most two units. A negative duration becomes 0s.
func Age(d time.Duration) string {
	s := int(max(d, 0).Round(time.Second).Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// shortDuration formats the duration of a call with three digits.
func shortDuration(s admin.Seconds) string {
	d := time.Duration(s)
	for unit := time.Duration(1); unit < time.Second; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
	}
	return d.Round(10 * time.Millisecond).String()
}
