package choosing

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

var update = flag.Bool("update", false, "record the runs in docs/choosing.md")

// overload is traffic of three quarters of what a model server with two workers and two seconds for an answer can serve, which grows
// by a factor for a minute.
func overload(peak time.Duration) []phase {
	return []phase{
		{length: 20 * time.Second, gap: 4 * time.Second / 3},
		{length: time.Minute, gap: peak},
		{length: 20 * time.Second, gap: 4 * time.Second / 3},
	}
}

// scenarios are the kinds of upstreams in docs/choosing.md. Their checks compare outcomes that differ by far.
var scenarios = []*scenario{
	{
		name: "slow", speed: 10, timeout: 15 * time.Second, row: 10 * time.Second,
		traffic:  overload(time.Second / 2),
		upstream: func(s *scenario) upstream { return newModelServer(s.faster(2*time.Second), 0) },
		configs:  []string{defaults, "throttle", "max_in_flight", "auto"},
		check: func(runs map[string]*run) error {
			for _, limit := range []string{"max_in_flight", "auto"} {
				limited := runs[limit]
				for _, name := range []string{defaults, "throttle"} {
					if other := runs[name]; limited.count(answered) <= other.count(answered) || limited.wasted >= other.wasted {
						return fmt.Errorf("%s: %d answered and %d worked on in vain; %s: %d and %d",
							limit, limited.count(answered), limited.wasted, name, other.count(answered), other.wasted)
					}
				}
			}
			return errors.Join(runs["max_in_flight"].has("overload"), runs["auto"].has("overload"))
		},
	},
	{
		name: "shedding", speed: 10, timeout: 30 * time.Second, row: 10 * time.Second,
		traffic:  overload(time.Second / 4),
		upstream: func(s *scenario) upstream { return newModelServer(s.faster(2*time.Second), s.faster(4*time.Second)) },
		configs:  []string{defaults, "throttle"},
		check: func(runs map[string]*run) error {
			if with, without := runs["throttle"].count(answered), runs[defaults].count(answered); with <= without {
				return fmt.Errorf("%d calls were answered with throttle, %d without", with, without)
			}
			return errors.Join(runs["throttle"].has("throttled"), runs[defaults].opened("consecutive_failures"))
		},
	},
	{
		name: "partial", speed: 10, timeout: 10 * time.Second, row: 10 * time.Second,
		traffic: []phase{
			{length: 20 * time.Second, gap: time.Second / 2},
			{length: 50 * time.Second, gap: time.Second / 2, faulty: true},
			{length: 30 * time.Second, gap: time.Second / 2},
		},
		upstream: func(*scenario) upstream { return new(replicas) },
		configs:  []string{defaults, "ratio"},
		check: func(runs map[string]*run) error {
			if with, without := runs["ratio"].count("timeout"), runs[defaults].count("timeout"); with >= without {
				return fmt.Errorf("%d calls timed out with ratio, %d without", with, without)
			}
			return runs["ratio"].opened("failure_ratio")
		},
	},
	{
		name: "limited", speed: 1, row: time.Second,
		traffic:  []phase{{length: 10 * time.Second, gap: time.Second / 10}},
		upstream: func(*scenario) upstream { return &rateLimited{bucket: rate.NewLimiter(5, 5)} },
		configs:  []string{defaults, "retry_after"},
		check: func(runs map[string]*run) error {
			if with, without := runs["retry_after"].count("429"), runs[defaults].count("429"); with >= without {
				return fmt.Errorf("%d responses were 429 with retry_after, %d without", with, without)
			}
			return runs["retry_after"].opened("retry_after")
		},
	},
	{
		name: "quiet", speed: 200, row: 5 * time.Minute,
		traffic: []phase{
			{length: 10 * time.Minute, gap: time.Minute},
			{length: 25 * time.Minute, gap: time.Minute, faulty: true},
		},
		upstream: func(*scenario) upstream { return &partlyBroken{random: rand.New(rand.NewPCG(17, 1))} },
		configs:  []string{"ratio_30s", "count"},
		check: func(runs map[string]*run) error {
			if changes := runs["ratio_30s"].changes; len(changes) > 0 {
				return fmt.Errorf("ratio has changed the state: %+v", changes)
			}
			return runs["count"].opened("failure_ratio")
		},
	},
}

// attempts is how often a scenario is run until its check succeeds. On a machine that is so busy that it stops the test, the proxy or
// the upstream for longer than a timeout, calls fail that the scenario does not want to fail.
const attempts = 3

// TestRecommendedSettingsServeTheirUpstreams runs all scenarios at the same time, because they mostly wait. With -update it records
// them.
func TestRecommendedSettingsServeTheirUpstreams(t *testing.T) {
	p := readPage(t)
	for _, s := range scenarios {
		if _, current := p.place(t, s); !current && !*update {
			t.Errorf("the recording of %s in docs/choosing.md has other settings; run: go test ./internal/e2e/choosing -update", s.name)
		}
	}
	last := map[*scenario]map[string]*run{} // runs by scenario and configuration
	pending := scenarios
	for attempt := 1; len(pending) > 0 && attempt <= attempts; attempt++ {
		var failed []*scenario
		played := play(t, p, pending)
		for _, s := range pending {
			last[s] = played[s]
			err := s.check(played[s])
			t.Logf("%s: %v\n%s\n%s", s.name, err, s.summary(played[s]), s.table(played[s]))
			if err == nil {
				continue
			}
			if failed = append(failed, s); attempt == attempts {
				t.Errorf("%s: %v", s.name, err)
			}
		}
		pending = failed
	}
	if *update && !t.Failed() {
		p.record(t, last)
	}
}

// play runs scenarios through one proxy, and returns the runs by configuration.
func play(t *testing.T, p page, scenarios []*scenario) map[*scenario]map[string]*run {
	t.Helper()
	var all []*route
	for _, s := range scenarios {
		all = append(all, s.routes(t, p)...)
	}
	proxy := startProxy(t, all)
	var traffic sync.WaitGroup
	for _, r := range all {
		traffic.Go(func() { r.sendTraffic(t, proxy) })
	}
	traffic.Wait()
	checkMetrics(t, proxy, all)
	runs := map[*scenario]map[string]*run{}
	for _, r := range all {
		if runs[r.scenario] == nil {
			runs[r.scenario] = map[string]*run{}
		}
		r.run.wasted, r.run.changes = r.upstream.wastedAnswers(), proxy.History(r.name)
		runs[r.scenario][r.config] = r.run
	}
	return runs
}
