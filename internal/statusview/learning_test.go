package statusview

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
)

func TestStatusShowsLearning(t *testing.T) {
	t.Parallel()
	ratio, seconds := 0.012345, func(d time.Duration) *admin.Seconds { s := admin.Seconds(d); return &s }
	p := &Status{Health: admin.Health{Services: map[string]admin.Service{
		"a": {Adaptive: &admin.Adaptive{Mode: "enforce", Warm: true, Evidence: 0.256, Explanation: "fails \x1b[2J"}},
		"b": {Adaptive: &admin.Adaptive{Mode: "shadow", Warm: true, Demoted: true, Explanation: "in shadow mode"}},
		"c": {Adaptive: &admin.Adaptive{Mode: "shadow", Explanation: "still learning"}},
		"d": {ConcurrencyLimit: &events.ConcurrencyLimit{Limit: 20, InFlight: 3}},
		"e": {ConcurrencyLimit: &events.ConcurrencyLimit{Limit: 20, InFlight: 3, Auto: true}, SlowCallDuration: seconds(312 * time.Millisecond)},
	}}}
	all := draw(t, p)
	for _, want := range []string{" LEARNING\n", " enforce, evidence 26 %\n", " demoted to shadow\n", " shadow, warming up\n", " -\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	for service, want := range map[string][]string{
		"a": {
			"learning enforce, evidence 26 %\n", "explanation fails �[2J\n", "baseline at most 1.2 % failures, from 48210 calls\n",
			"durations p50 12.3ms, p95 1.23s, p99 150µs\n", "its openings 2 earlier, 1 by this alone, 0 refuted\n",
		},
		"b": {"learning demoted to shadow\n", "demoted the first probe has succeeded after more than three of its last ten openings; it enforces again when"},
		"c": {"learning shadow, warming up\n", "explanation still learning\n", "baseline failures not known, from 0 calls\n"},
		"d": nil,
		"e": {"in flight 3, limited to 20 by auto\n", "slow calls from 312ms, set by auto\n", "durations p50 10ms\n"},
	} {
		p.Service, p.Baseline = service, nil
		switch service {
		case "a":
			p.Baseline = &admin.Baseline{
				FailureRatio: &ratio, Calls: 48210, Openings: admin.BaselineOpenings{Earlier: 2, OnlyAdaptive: 1},
				Latency: admin.BaselineLatency{P50: seconds(12_345 * time.Microsecond), P95: seconds(1234 * time.Millisecond), P99: seconds(150 * time.Microsecond)},
			}
		case "c", "d":
			p.Baseline = &admin.Baseline{SlowCallDuration: seconds(5 * time.Second)}
		case "e":
			p.Baseline = &admin.Baseline{Latency: admin.BaselineLatency{P50: seconds(10 * time.Millisecond)}}
		}
		one := draw(t, p)
		for _, want := range want {
			if !strings.Contains(one, want) {
				t.Errorf("%s: no %q in\n%s", service, want, one)
			}
		}
		if service == "d" && (strings.Contains(one, "learning") || strings.Contains(one, "baseline") || strings.Contains(one, "durations") || strings.Contains(one, "in flight")) || service == "c" && (strings.Contains(one, "durations") || strings.Contains(one, "demoted")) {
			t.Errorf("%s:\n%s", service, one)
		}
	}
}

func TestStatusShowsValuesOfOverriddenKeys(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := &Status{
		Health: admin.Health{Services: map[string]admin.Service{
			"a": {Overrides: &admin.OverridesStatus{Keys: []string{"breaker.fail_max", "fallback"}, Until: now.Add(time.Hour), Reason: "why"}},
		}},
		Service: "a",
		Overrides: &admin.Overrides{Keys: []admin.OverriddenKey{
			{Key: "breaker.fail_max", Value: json.RawMessage("10"), FileValue: json.RawMessage("5")},
			{Key: "fallback", Value: json.RawMessage("\"a\u001b\""), FileValue: json.RawMessage("null")},
		}},
	}
	var got strings.Builder
	if err := p.Draw(&got, false, now); err != nil {
		t.Fatal(err)
	}
	const want = "overrides breaker.fail_max, fallback for 1h00m: why\n breaker.fail_max = 10, otherwise 5\n fallback = \"a�\", otherwise not set\n"
	if text := collapseSpaces(got.String()); !strings.Contains(text, want) {
		t.Errorf("no %q in\n%s", want, text)
	}
}
