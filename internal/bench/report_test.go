package main

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/bench/process"
)

func TestCompareReturnsMedianOfRounds(t *testing.T) {
	round := func(cpu ...time.Duration) (all []sample) {
		for _, d := range cpu {
			all = append(all, sample{cpu: d * time.Microsecond})
		}
		return all
	}
	s := scenario{Contenders: []figures{
		summarize("cbproxy", round(11, 30, 24)),
		summarize("bare", round(10, 10, 20)),
	}}
	s.compare("cbproxy", "bare", 1.3)
	s.compare("cbproxy", "caddy", 1.3) // was not measured
	if len(s.Ratios) != 1 {
		t.Fatalf("got %d ratios, want 1", len(s.Ratios))
	}
	if r := s.Ratios[0]; r.Ratio != 1.2 || r.Lowest != 1.1 || r.Highest != 3 || !r.Met {
		t.Errorf("got %+v, want 1.2 between 1.1 and 3, met", r)
	}
	var b strings.Builder
	if err := (report{Scenarios: []scenario{s}}).print(&b); err != nil || !strings.Contains(b.String(), "1.200") {
		t.Errorf("got %v and\n%s", err, b.String())
	}
}

func TestVerdictOfMinimumAndMaximumTargets(t *testing.T) {
	for _, test := range []struct {
		goal goal
		want string
	}{
		{goal{Figure: 5, Target: 4, Least: true}, "target ≥ 4: met"},
		{goal{Figure: 3, Target: 4, Least: true}, "target ≥ 4: missed"},
		{goal{Figure: 3, Target: 4}, "target ≤ 4: met"},
		{goal{Figure: 5, Target: 4}, "target ≤ 4: missed"},
		{goal{Figure: 5}, ""},
	} {
		if got := test.goal.verdict(); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.goal, got, test.want)
		}
	}
}

func TestReadMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("supported on Linux only")
	}
	m, err := process.ReadMemory(os.Getpid())
	if err != nil || m.Anon <= 0 || m.File <= 0 || m.RSS < m.Anon || m.Peak < m.Anon {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestCPUTimeGrows(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("supported on Linux only")
	}
	before, err := process.CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 20*time.Millisecond; {
		continue // work
	}
	after, err := process.CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if d := after - before; d <= 0 || d > time.Minute {
		t.Errorf("got %v of CPU time for 20 ms of work", d)
	}
}

func TestCPUModel(t *testing.T) {
	if got, ok := cpuModel("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"); !ok || got != "Some CPU @ 2 GHz" {
		t.Errorf("got %q, %v", got, ok)
	}
	if got, ok := cpuModel("processor: 0\n"); ok {
		t.Errorf("got %q from a text without a model name", got)
	}
}

func TestUpstreamAnswerIsOneKilobyte(t *testing.T) {
	if n := len(upstreamBody()); n != responseBytes {
		t.Errorf("got %d bytes, want %d", n, responseBytes)
	}
}
