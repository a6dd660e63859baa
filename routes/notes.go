package routes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Notes returns remarks about a valid configuration that may surprise its author, one per line, sorted: those of the options of fallback
// strategies first. The options of a strategy give one by a method Note() string, "" for none.
func (c *Config) Notes() []string {
	return append(c.fallbackNotes().lines(), c.routeNotes().lines()...)
}

// notes are the names to which a remark applies, by its text.
type notes map[string][]string

func (n notes) add(name, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n[text] = append(n[text], name)
}

func (n notes) lines() (lines []string) {
	for _, text := range slices.Sorted(maps.Keys(n)) {
		lines = append(lines, fmt.Sprintf("%s: %s", text, strings.Join(n[text], ", ")))
	}
	return lines
}

// fallbackNotes returns the remarks about the fallbacks that are in use.
func (c *Config) fallbackNotes() notes {
	all := notes{}
	inUse := map[string]bool{}
	for _, r := range c.Routes {
		inUse[r.Fallback] = inUse[r.Fallback] || r.FallbackEnabled
	}
	for _, name := range slices.Sorted(maps.Keys(c.Fallbacks)) {
		f := c.Fallbacks[name]
		for _, strategy := range f.Try {
			o, ok := f.Strategies[strategy].(interface{ Note() string })
			if !ok || !inUse[name] {
				continue
			}
			if note := o.Note(); note != "" {
				all.add(name, "%s %s", strategy, note)
			}
		}
	}
	return all
}

// secretFields are header fields, in lower case, whose values are secrets.
var secretFields = []string{"authorization", "cookie", "x-api-key"}

// routeNotes returns the remarks about routes, most of them about keys without effect. These are no faults, because a route may inherit one
// of the keys, and an environment variable or an override may set the other one.
func (c *Config) routeNotes() notes {
	all := notes{}
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		r := c.Routes[name]
		if r.AttemptTimeout >= r.Timeout {
			all.add(name, "attempt_timeout (%s) has no effect, it is not below timeout (%s)", formatDuration(r.AttemptTimeout), formatDuration(r.Timeout))
		}
		if r.Stream.FirstEventTimeout > r.IdleTimeout {
			all.add(name, "stream.first_event_timeout (%s) applies only to streams with comments or pings, idle_timeout (%s) ends the others first",
				formatDuration(r.Stream.FirstEventTimeout), formatDuration(r.IdleTimeout))
		}
		if r.Breaker.Probe.GRPC && r.Breaker.Probe.Path != "" {
			all.add(name, "breaker.probe.path has no effect with breaker.probe.grpc")
		}
		if by := strings.ToLower(r.Breaker.By.Header); slices.Contains(secretFields, by) {
			all.add(name, "the values of breaker.by.header (%s) are secrets, which the admin API shows", r.Breaker.By.Header)
		}
		r.hedgeNotes(func(format string, args ...any) { all.add(name, format, args...) })
	}
	return all
}

// hedgeNotes calls add for each reason why the route never sends a second attempt although hedge.after is set.
func (r *Route) hedgeNotes(add func(format string, args ...any)) {
	after := r.Hedge.After
	switch {
	case after == 0:
		return
	case after >= r.Timeout:
		add("hedge.after (%s) has no effect, it is not below timeout (%s)", formatDuration(after), formatDuration(r.Timeout))
	case r.AttemptTimeout > 0 && after >= r.AttemptTimeout:
		add("hedge.after (%s) has no effect, it is not below attempt_timeout (%s)", formatDuration(after), formatDuration(r.AttemptTimeout))
	}
	if len(r.Retry.Methods) == 0 && !r.Retry.IdempotencyKey {
		add("hedge.after has no effect, retry.methods is empty")
	}
}
