package main

import (
	"fmt"
	"time"

	"cbproxy/internal/events"
)

// faultsText describes the faults that are injected into a service's requests; "" if there are none.
func faultsText(faults []events.Fault, now time.Time) string {
	switch len(faults) {
	case 0: // an older proxy does not say it either
		return ""
	case 1:
		return faultText(faults[0], now)
	}
	return fmt.Sprintf("%s, and %d more", faultText(faults[0], now), len(faults)-1)
}

// faultText describes a fault.
func faultText(f events.Fault, now time.Time) string {
	text := fmt.Sprintf("%s: %s into %s", clean(f.ID), faultKindText(f), percent(f.Share))
	if match := matchText(f.Match); match != "" {
		text += " with " + match
	}
	text += " for " + age(f.Until.Sub(now))
	if f.Reason != "" {
		text += ": " + short(f.Reason, 40)
	}
	return text
}

// faultKindText returns the kind of a fault with its setting.
func faultKindText(f events.Fault) string {
	kind := clean(string(f.Kind))
	switch {
	case f.Status != 0:
		return fmt.Sprintf("%s %d", kind, f.Status)
	case f.Delay != 0:
		return kind + " " + f.Delay.String()
	}
	return kind
}

func matchText(m *events.FaultMatch) string {
	switch {
	case m == nil:
		return ""
	case m.Value == "":
		return short(m.Header, 40)
	}
	return short(m.Header+": "+m.Value, 40)
}

// percent returns a share in percent.
func percent(share float64) string { return fmt.Sprintf("%.4g %%", 100*share) }
