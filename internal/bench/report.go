package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is the outcome of a run.
type report struct {
	Machine   machine    `json:"machine"`
	Options   string     `json:"options"`
	Notes     []string   `json:"notes,omitempty"`
	Scenarios []scenario `json:"scenarios"`
}

// scenario is the outcome of one scenario.
type scenario struct {
	Name       string    `json:"name"`
	About      string    `json:"about"`
	Contenders []figures `json:"contenders,omitempty"`
	Ratios     []ratio   `json:"ratios,omitempty"`
	Accepted   []count   `json:"accepted,omitempty"`
	Delays     []delay   `json:"delays,omitempty"`
	Goals      []goal    `json:"goals,omitempty"`
}

// goal is a measurement of one contender with an optional target.
type goal struct {
	Name   string  `json:"name"`
	Figure float64 `json:"figure"`
	Target float64 `json:"target,omitempty"` // 0 for none
	Least  bool    `json:"least,omitempty"`  // whether the target is a minimum instead of a maximum
}

// verdict returns a text that says whether the target was met, "" without a target.
func (g *goal) verdict() string {
	switch {
	case g.Target == 0:
		return ""
	case g.Least:
		return fmt.Sprintf("target ≥ %.4g: %s", g.Target, metOrMissed(g.Figure >= g.Target))
	}
	return fmt.Sprintf("target ≤ %.4g: %s", g.Target, metOrMissed(g.Figure <= g.Target))
}

func metOrMissed(met bool) string {
	if met {
		return "met"
	}
	return "missed"
}

// count is the number of connections that the upstream accepted from one proxy.
type count struct {
	Name        string `json:"name"`
	Connections int    `json:"connections"`
}

// ratio compares the CPU time per request of two contenders round by round, because disturbances affect both in the same
// round.
type ratio struct {
	Name    string  `json:"name"`
	Of      string  `json:"of"`
	Ratio   float64 `json:"ratio"` // median over the rounds
	Lowest  float64 `json:"lowest"`
	Highest float64 `json:"most"`
	Target  float64 `json:"target,omitempty"` // maximum; 0 for none
	Met     bool    `json:"met"`
}

// compare adds the ratio of two contenders, if both were measured. A target of 0 means none.
func (s *scenario) compare(name, of string, target float64) {
	byName := func(name string) int {
		return slices.IndexFunc(s.Contenders, func(f figures) bool { return f.Name == name })
	}
	i, j := byName(name), byName(of)
	if i < 0 || j < 0 {
		return
	}
	a, b := s.Contenders[i], s.Contenders[j]
	rounds := make([]float64, len(a.samples))
	for i := range rounds {
		rounds[i] = float64(a.samples[i].cpu) / float64(b.samples[i].cpu)
	}
	mid := median(rounds, identity)
	s.Ratios = append(s.Ratios, ratio{
		Name: name, Of: of, Target: target,
		Ratio: mid, Lowest: slices.Min(rounds), Highest: slices.Max(rounds),
		Met: target == 0 || mid <= target,
	})
}

// print writes the report as tables.
func (r report) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	// A tabwriter keeps its first error and returns it from Flush.
	printf := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	printf("%s\n%s\n", r.Machine, r.Options)
	for _, n := range r.Notes {
		printf("note: %s\n", strings.TrimSpace(n))
	}
	for _, s := range r.Scenarios {
		printf("\n%s: %s\n", s.Name, s.About)
		if len(s.Contenders) > 0 {
			printf("  contender\tCPU µs/request\trequests/s\tp50 µs\tp99 µs\terrors\n")
		}
		for _, f := range s.Contenders {
			printf("  %s\t%.2f\t%.0f\t%.0f\t%.0f\t%d\n", f.Name, f.CPU, f.Throughput, f.P50, f.P99, f.Errors)
		}
		if len(s.Delays) > 0 {
			printf("  contender\tfirst p50 µs\tp99 µs\tlater p50 µs\tp99 µs\n")
		}
		for _, d := range s.Delays {
			printf("  %s\t%.0f\t%.0f\t%.0f\t%.0f\n", d.Name, d.FirstP50, d.FirstP99, d.LaterP50, d.LaterP99)
		}
		for _, c := range s.Accepted {
			printf("  %s\t%d\n", c.Name, c.Connections)
		}
		_ = w.Flush() // the next table has other columns; the writer keeps its error
		for _, x := range s.Ratios {
			printf("  CPU of %s / %s\t%.3f\t(rounds %.3f to %.3f)\t", x.Name, x.Of, x.Ratio, x.Lowest, x.Highest)
			if x.Target > 0 {
				printf("target ≤ %.2f: %s", x.Target, metOrMissed(x.Met))
			}
			printf("\n")
		}
		for _, g := range s.Goals {
			printf("  %s\t%.4g\t%s\n", g.Name, g.Figure, g.verdict())
		}
		_ = w.Flush()
	}
	return w.Flush()
}

// machine describes the machine of a run.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Date   string `json:"date"`
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, %s, %s, %s", m.CPU, m.Cores, m.Kernel, m.Go, m.Date)
}

func describeMachine() machine {
	m := machine{
		CPU:    "unknown CPU",
		Cores:  runtime.NumCPU(),
		Kernel: runtime.GOOS + "/" + runtime.GOARCH,
		Go:     runtime.Version(),
		Date:   time.Now().UTC().Format(time.DateOnly),
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = runtime.GOOS + " " + strings.TrimSpace(string(release)) + " " + runtime.GOARCH
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if model, ok := cpuModel(string(info)); ok {
			m.CPU = model
		}
	}
	return m
}

// cpuModel finds the first model name in the text of /proc/cpuinfo.
func cpuModel(info string) (string, bool) {
	for line := range strings.Lines(info) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}
