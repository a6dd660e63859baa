// Package statusview draws the status of a running proxy as text, on a terminal with colours and in place.
package statusview

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"
)

// Status is what a running proxy tells of itself.
type Status struct {
	Health  admin.Health
	Queues  map[string]events.QueueStatus
	Service string // the only service shown; "" for all
	History []events.HistoryEntry
	// Baseline and Overrides are those of Service; Overrides is nil if no keys are overridden.
	Baseline  *admin.Baseline
	Overrides *admin.Overrides
	Taken     time.Time // local time of the fetch
}

// Now returns the current time by the proxy's clock, so that ages are right even if the clocks differ.
func (p *Status) Now() time.Time { return p.Health.Timestamp.Add(time.Since(p.Taken)) }

// Draw writes the status with ages as of now.
func (p *Status) Draw(w io.Writer, paint Painter, now time.Time) error {
	p.drawHead(w, paint, now)
	if p.Service != "" {
		return p.drawService(w, paint, now)
	}
	return p.drawTable(w, paint, now)
}

// drawHead writes the status of the whole proxy, the configuration error and the changed keys that need a restart.
func (p *Status) drawHead(w io.Writer, paint Painter, now time.Time) {
	h := p.Health
	colour := map[string]int{"healthy": green, "degraded": yellow}[h.Status]
	if colour == 0 {
		colour = red
	}
	fmt.Fprintf(w, "%s · instance %s · config %s, %s old · redis %s\n", paint.paint(colour, sanitize.Printable(h.Status)), sanitize.Printable(h.Instance),
		sanitize.Short(h.Config.Hash, 12), Age(now.Sub(h.Config.LoadedAt)), redisText(h.Redis, now))
	if e := h.Config.LastError; e != nil {
		fmt.Fprintln(w, paint.paint(red, "The last configuration was rejected, the previous one stays active:"))
		for line := range strings.Lines(strings.TrimSpace(*e)) {
			fmt.Fprintln(w, "  "+sanitize.Printable(strings.TrimRight(line, "\n")))
		}
	}
	if keys := h.Config.RestartRequired; len(keys) > 0 {
		fmt.Fprintf(w, "%s %s\n", paint.paint(yellow, "Restart required:"), sanitize.Printable(strings.Join(keys, ", ")))
	}
	for _, d := range h.Config.OverridesDropped {
		fmt.Fprintf(w, "%s %s, %s ago: %s\n", paint.paint(yellow, "Overrides dropped:"), sanitize.Printable(d.Service), Age(now.Sub(d.Time)), sanitize.Short(d.Error, 200))
	}
	fmt.Fprintln(w)
}

func redisText(r admin.RedisStatus, now time.Time) string {
	switch {
	case !r.Configured:
		return "none"
	case r.Up:
		return "up"
	}
	text := "down"
	if r.Since != nil {
		text += " for " + Age(now.Sub(*r.Since))
	}
	if r.LastError != nil {
		text += ": " + sanitize.Short(*r.LastError, 80)
	}
	return text
}

// drawTable writes a row for each service. Empty columns are left out.
func (p *Status) drawTable(w io.Writer, paint Painter, now time.Time) error {
	columns := []string{"SERVICE", paint.paint(noColour, "STATE"), "SINCE", "PROBE IN", "FAILURES", "ENDPOINTS", "KEYS", "FORCED", "FAULTS", "OVERRIDES", "MODE", "LEARNING", "ADMISSION", "QUEUE", "LAST ERROR"}
	rows, used := [][]string{columns}, make([]bool, len(columns))
	for _, name := range slices.Sorted(maps.Keys(p.Health.Services)) {
		s := p.Health.Services[name]
		row := []string{
			sanitize.Printable(name), paint.paint(stateColour(s.State), s.State.String()), Age(now.Sub(s.Since)), probeText(s, now), failuresText(s), endpointsText(s.Endpoints), keysText(s.Keys),
			ForcedText(s.Forced, now), faultsText(s.Faults, now), overridesText(s.Overrides, now), modeText(s), learningText(s.Adaptive), admissionText(s), queueText(p.Queues[name]), errorText(s.LastError, now),
		}
		for i, cell := range row {
			used[i] = used[i] || cell != ""
		}
		rows = append(rows, row)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		var cells []string
		for i, cell := range row {
			if cell == "" {
				cell = "-"
			}
			if used[i] {
				cells = append(cells, cell)
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

func probeText(s admin.Service, now time.Time) string {
	switch {
	case s.State == events.HalfOpen:
		return "now"
	case s.State != events.Open || s.RetryAt == nil:
		return ""
	}
	return Age(s.RetryAt.Sub(now))
}

func failuresText(s admin.Service) string {
	if s.Configuration.FailMax == 0 {
		return fmt.Sprint(s.FailCounter)
	}
	return fmt.Sprintf("%d/%d", s.FailCounter, s.Configuration.FailMax)
}

func ForcedText(f *admin.Forced, now time.Time) string {
	if f == nil {
		return ""
	}
	text := f.State.String()
	if f.Until != nil {
		text += " for " + Age(f.Until.Sub(now))
	} else {
		text += " until released"
	}
	if f.Scope == "fleet" {
		text += ", whole fleet"
	}
	if f.Reason != "" {
		text += ": " + sanitize.Short(f.Reason, 40)
	}
	return text
}

func modeText(s admin.Service) string {
	switch {
	case s.Mode == "enforce":
		return ""
	case s.ShadowRejections > 0:
		return fmt.Sprintf("%s, would have rejected %d", sanitize.Printable(s.Mode), s.ShadowRejections)
	}
	return sanitize.Printable(s.Mode)
}

// admissionText says which share of the requests a closed breaker rejects, or would reject in shadow mode; "" if it rejects none.
func admissionText(s admin.Service) string {
	var parts []string
	would := ""
	if s.Mode == "shadow" {
		would = "would be "
	}
	if s.RejectionRatio > 0 {
		parts = append(parts, fmt.Sprintf("throttled: %.0f %% %srejected", 100*s.RejectionRatio, would))
	}
	if s.AdmittedRatio > 0 && s.AdmittedRatio < 1 { // 0: an older proxy does not say it
		parts = append(parts, fmt.Sprintf("recovering: %.0f %% %slet through", 100*s.AdmittedRatio, would))
	}
	return strings.Join(parts, ", ")
}

func queueText(q events.QueueStatus) string {
	switch {
	case q.Waiting+q.Dead == 0:
		return ""
	case q.Dead == 0:
		return fmt.Sprintf("%d waiting", q.Waiting)
	}
	return fmt.Sprintf("%d waiting, %d dead", q.Waiting, q.Dead)
}

func errorText(f *events.Failure, now time.Time) string {
	if f == nil {
		return ""
	}
	return sanitize.Short(fmt.Sprintf("%s %s ago: %s", f.Type, Age(now.Sub(f.Time)), f.Detail), 60)
}

// drawService writes the details of one service.
func (p *Status) drawService(w io.Writer, paint Painter, now time.Time) error {
	s := p.Health.Services[p.Service]
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	line("service", sanitize.Printable(p.Service))
	line("state", paint.paint(stateColour(s.State), s.State.String())+" for "+Age(now.Sub(s.Since)))
	line("cause", sanitize.Printable(string(s.Cause)))
	line("probe in", probeText(s, now))
	line("failures", failuresText(s))
	drawEndpoints(s.Endpoints, paint, now, line)
	line("keys", keysText(s.Keys))
	line("forced", ForcedText(s.Forced, now))
	for _, f := range s.Faults {
		line("fault", FaultText(f, now))
	}
	line("overrides", overridesText(s.Overrides, now))
	for _, text := range overriddenTexts(p.Overrides) {
		line("", text)
	}
	line("mode", cmp.Or(modeText(s), sanitize.Printable(s.Mode)))
	line("algorithm", sanitize.Printable(s.Algorithm))
	p.drawLearning(s.Adaptive, line)
	if d := s.SlowCallDuration; d != nil {
		line("slow calls", "from "+shortDuration(*d)+", set by auto")
	}
	line("admission", admissionText(s))
	if l := s.ConcurrencyLimit; l != nil && l.Auto {
		line("in flight", fmt.Sprintf("%d, limited to %d by auto", l.InFlight, l.Limit))
	}
	if s.ExpressionErrors > 0 {
		line("expression errors", fmt.Sprint(s.ExpressionErrors))
	}
	line("priority", fmt.Sprint(s.Configuration.Priority))
	line("timeout", time.Duration(s.Configuration.Timeout).String())
	line("recovery timeout", time.Duration(s.Configuration.RecoveryTimeout).String())
	line("queue", queueText(p.Queues[p.Service]))
	if f := s.LastError; f != nil {
		line("last error", sanitize.Printable(fmt.Sprintf("%s %s ago: %s", f.Type, Age(now.Sub(f.Time)), f.Detail)))
	}
	if err := t.Flush(); err != nil || len(p.History) == 0 {
		return err
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "TIME\tFROM\tTO\tCAUSE\tINSTANCE\tREASON")
	for _, c := range p.History {
		reason := c.Reason
		if reason == "" && c.Failure != nil {
			reason = string(c.Failure.Type) + ": " + c.Failure.Detail
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Time.Local().Format(time.DateTime), c.From, c.To, sanitize.Printable(string(c.Cause)), sanitize.Printable(c.Instance), sanitize.Short(reason, 60))
	}
	return t.Flush()
}
