package soak

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// logProgress logs the numbers of requests and faults every ten seconds until stop is called.
func (s *soakTest) logProgress() (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	start := time.Now()
	go func() {
		defer close(stopped)
		tick := time.NewTicker(10 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				s.t.Logf("%v: %d requests, %d faults", time.Since(start).Round(time.Second), s.counts.total(), s.faults.total())
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(done)
		<-stopped
	})
}

// logSummary logs the counts and measurements of the whole test.
func (s *soakTest) logSummary(elapsed time.Duration) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "seed %d, %v, %d instances\t\n", s.seed, elapsed.Round(time.Second), len(s.fleet))
	fmt.Fprintf(w, "requests\t%d, %.0f per second\n", s.counts.total(), float64(s.counts.total())/elapsed.Seconds())
	writeCounts(w, s.counts.results)
	fmt.Fprintf(w, "longest response\t%v\n", s.counts.longest.Round(time.Millisecond))
	for name, d := range map[string]*durations{"upstream responses in quiet periods": &s.counts.upstreamLatency, "static responses while open": &s.counts.openLatency} {
		q := d.quantiles(.5, .99, 1)
		fmt.Fprintf(w, "%s\t%d: p50 %v, p99 %v, max %v\n", name, d.len(), q[0].Round(time.Microsecond), q[1].Round(time.Microsecond), q[2].Round(time.Microsecond))
	}
	fmt.Fprintf(w, "faults\t%d\n", s.faults.total())
	writeCounts(w, s.faults.byKind)
	q := s.requests.queued
	fmt.Fprintf(w, "queued\t%d accepted, %d of them delivered, %d duplicate deliveries; %d deliveries of requests with an unknown result\n", q.accepted, q.delivered, q.duplicates, q.unknown)
	for n, samples := range s.measurements.samples {
		fmt.Fprintf(w, "instance %d in %d quiet periods\t\n", n, len(samples))
		writeSamples(w, samples)
	}
	fmt.Fprintf(w, "Redis\tkeys and KiB in the quiet periods:")
	for _, r := range s.measurements.redis {
		fmt.Fprintf(w, " %v/%.0f", r.keys, r.bytes/1024)
	}
	fmt.Fprintln(w)
	_ = w.Flush()
	s.t.Log("\n" + text.String())
}

// writeCounts writes a line for each count, sorted by name.
func writeCounts(w *tabwriter.Writer, counts map[string]int) {
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "  %s\t%d\n", name, counts[name])
	}
}

// writeSamples writes a line for each resource.
func writeSamples(w *tabwriter.Writer, samples []resourceSample) {
	for _, resource := range []struct {
		name  string
		value func(resourceSample) float64
		unit  float64
	}{
		{"goroutines", func(s resourceSample) float64 { return float64(s.goroutines) }, 1},
		{"descriptors", func(s resourceSample) float64 { return float64(s.descriptors) }, 1},
		{"live heap, MiB", func(s resourceSample) float64 { return s.heapLive }, 1 << 20},
		{"heap in use, MiB", func(s resourceSample) float64 { return s.heapInUse }, 1 << 20},
		{"resident, MiB", func(s resourceSample) float64 { return s.resident }, 1 << 20},
		{"peak resident, MiB", func(s resourceSample) float64 { return s.peakResident }, 1 << 20},
		{"data_dir, KiB", func(s resourceSample) float64 { return s.dataDir }, 1 << 10},
	} {
		maximum := 0.0
		for _, s := range samples {
			maximum = max(maximum, resource.value(s))
		}
		first, last := resource.value(samples[0]), resource.value(samples[len(samples)-1])
		fmt.Fprintf(w, "  %s\tfirst %.1f, last %.1f, max %.1f, slope %+.2f per minute\n", resource.name,
			first/resource.unit, last/resource.unit, maximum/resource.unit, slope(samples, resource.value)/resource.unit)
	}
}

// slope returns the growth of a value per minute, by a least-squares fit.
func slope(samples []resourceSample, value func(resourceSample) float64) float64 {
	var n, x, y, xx, xy float64
	for _, s := range samples {
		minutes := s.time.Sub(samples[0].time).Minutes()
		n, x, y, xx, xy = n+1, x+minutes, y+value(s), xx+minutes*minutes, xy+minutes*value(s)
	}
	if d := n*xx - x*x; d > 0 {
		return (n*xy - x*y) / d
	}
	return 0
}
