package statusview

import (
	"fmt"
	"strings"

	"cbproxy/internal/admin"
	"cbproxy/internal/sanitize"
)

// learningText says in which mode a breaker learns, and how strong the evidence for a fault is; "" if it does not learn.
func learningText(a *admin.Adaptive) string {
	if a == nil {
		return ""
	}
	text := sanitize.Printable(a.Mode)
	if a.Demoted {
		text = "demoted to " + text
	}
	if !a.Warm {
		text += ", warming up"
	}
	if percent := fmt.Sprintf("%.0f %%", 100*a.Evidence); percent != "0 %" {
		text += ", evidence " + percent
	}
	return text
}

// drawLearning writes lines about what the breaker of p.Service has learnt; none if it learns neither failures nor durations.
func (p *Status) drawLearning(a *admin.Adaptive, line func(name, value string)) {
	if a != nil {
		line("learning", learningText(a))
		if a.Demoted {
			line("demoted", "the first probe has succeeded after more than three of its last ten openings; it enforces again when another limit opens the breaker after evidence, or when the baseline is reset")
		}
		line("explanation", sanitize.Printable(a.Explanation))
	}
	b := p.Baseline
	if b == nil {
		return
	}
	if a != nil {
		line("baseline", baselineText(b))
		line("its openings", fmt.Sprintf("%d earlier, %d by this alone, %d refuted", b.Openings.Earlier, b.Openings.OnlyAdaptive, b.Openings.Refuted))
	}
	if b.Latency.P50 != nil {
		line("durations", durationsText(b))
	}
}

// baselineText says how often calls fail, and from how many that was learnt.
func baselineText(b *admin.Baseline) string {
	text := "failures not known"
	if b.FailureRatio != nil {
		text = fmt.Sprintf("at most %.2g %% failures", 100**b.FailureRatio)
	}
	return fmt.Sprintf("%s, from %d calls", text, b.Calls)
}

// durationsText says how long calls take.
func durationsText(b *admin.Baseline) string {
	var parts []string
	for _, q := range []struct {
		name  string
		value *admin.Seconds
	}{{"p50", b.Latency.P50}, {"p95", b.Latency.P95}, {"p99", b.Latency.P99}} {
		if q.value != nil {
			parts = append(parts, q.name+" "+shortDuration(*q.value))
		}
	}
	return strings.Join(parts, ", ")
}
