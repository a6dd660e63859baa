package soak

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"cbproxy/internal/e2e/harness"
)

// faultCount is how many faults there were of each kind.
type faultCount struct {
	mu sync.Mutex
	by map[string]int
}

func (f *faultCount) add(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = map[string]int{}
	}
	f.by[kind]++
}

// storm runs faults of all kinds concurrently for the given time, then ends them.
func (s *soak) storm(spell int, length time.Duration) {
	stop := make(chan struct{})
	var troublemakers sync.WaitGroup
	trouble := func(name string, n int, between, lasts time.Duration, one func(r *rand.Rand) (end func())) {
		r := s.random(name, spell*100+n)
		troublemakers.Go(func() {
			for rest(stop, r, between) {
				end := one(r)
				rest(stop, r, lasts)
				end()
			}
		})
	}
	for n, name := range soakUpstreams {
		u := s.upstreams[name]
		trouble("upstream", n, 3*time.Second, 2500*time.Millisecond, func(r *rand.Rand) func() { return s.startUpstreamFault(u, r) })
	}
	trouble("redis", 0, 3*time.Second, 3*time.Second, s.startRedisFault)
	trouble("edits", 0, 600*time.Millisecond, 300*time.Millisecond, s.edit)
	trouble("kills", 0, 2*time.Second, time.Second, s.killOne)
	trouble("operator", 0, 500*time.Millisecond, time.Second, s.interfere)
	time.Sleep(length) // it lasts as long as it lasts
	close(stop)
	troublemakers.Wait()
}

// rest waits up to most, and reports whether faults continue.
func rest(stop <-chan struct{}, r *rand.Rand, most time.Duration) bool {
	select {
	case <-stop:
		return false
	case <-time.After(time.Duration(r.Int64N(int64(most)))):
		return true
	}
}

func (s *soak) startUpstreamFault(u *soakUpstream, r *rand.Rand) (end func()) {
	switch r.IntN(5) {
	case 0, 1:
		s.faults.add("upstream killed")
		u.Kill()
		return u.Start
	case 2:
		s.faults.add("upstream stopped")
		u.Pause()
		return u.Resume
	}
	mood := badMoods[r.IntN(len(badMoods))]
	s.faults.add("upstream " + mood)
	u.setMood(mood)
	return func() { u.setMood(moodGood) }
}

func (s *soak) startRedisFault(r *rand.Rand) (end func()) {
	switch r.IntN(4) {
	case 0:
		s.faults.add("redis stopped")
		s.redis.Pause()
		return s.redis.Resume
	case 1:
		s.faults.add("redis client pause")
		_ = s.client.Do(s.t.Context(), "CLIENT", "PAUSE", 200+r.IntN(2000), "ALL").Err() // which ends by itself
		return func() {}
	case 2:
		s.faults.add("redis emptied")
		_ = s.client.FlushAll(s.t.Context()).Err()
		return func() {}
	}
	s.faults.add("redis killed, and empty then")
	s.redis.Kill()
	return s.redis.Restart
}

// edit replaces an instance's configuration with a valid or an invalid one. An invalid one must have no
// effect.
func (s *soak) edit(r *rand.Rand) (end func()) {
	p := s.fleet[r.IntN(len(s.fleet))]
	n := int(s.version.Add(1))
	kind := r.IntN(4)
	faulty := s.faultyConfig(r, n)
	p.busy.Lock()
	defer p.busy.Unlock()
	switch {
	case kind == 0:
		s.faults.add("faulty edit")
		before := p.Health()
		p.ReplaceConfig(faulty)
		p.faulty++
		s.within("an invalid edit is reported", func() string { return unless(p.Health().Config.LastError != nil, "no last_error") })
		if after := p.Health(); after.Config.Hash != before.Config.Hash || after.Services["vms_service"].Configuration != before.Services["vms_service"].Configuration {
			s.complain("a faulty edit", "has changed %+v to %+v", before.Config, after.Config)
		}
		p.ReplaceConfig(s.config(n))
	case kind == 1 && !p.elder: // half of it may be read, which is a faulty edit of its own
		s.faults.add("edit in place")
		p.WriteConfig(s.config(n))
	default:
		s.faults.add("edit")
		p.ReplaceConfig(s.config(n))
	}
	s.inForce(p, n)
	return func() {}
}

func (s *soak) inForce(p *soakProxy, n int) {
	s.within("an edit is in force", func() string {
		h := p.Health()
		return unless(h.Services["vms_service"].Configuration.Timeout == versionOf(n) && h.Config.LastError == nil, "instance %d: %v, want %v; %v",
			p.n, h.Services["vms_service"].Configuration.Timeout, versionOf(n), h.Config.LastError)
	})
}

// unless returns what is missing, "" if it holds.
func unless(holds bool, format string, args ...any) string {
	if holds {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// killOne kills or stops an instance and starts it again.
func (s *soak) killOne(r *rand.Rand) (end func()) {
	p := s.fleet[soakElders+r.IntN(soakFleet-soakElders)]
	p.busy.Lock()
	p.downs.Add(1)
	if r.IntN(2) == 0 {
		s.faults.add("instance killed")
		p.Kill()
	} else {
		s.faults.add("instance terminated")
		p.Signal(syscall.SIGTERM)
		if status := p.Wait(); status != 0 {
			s.complain("exit", "status %d after SIGTERM", status)
		}
	}
	return func() {
		p.Start()
		p.downs.Add(1)
		p.busy.Unlock()
	}
}

// interfere forces a breaker of one instance or of all instances.
func (s *soak) interfere(r *rand.Rand) (end func()) {
	p := s.fleet[r.IntN(len(s.fleet))]
	services := []string{"rag_service", "rule_generation_service", "notifier_service", "vms_service", "prediction_service", "media", "backup"}
	service := services[r.IntN(len(services))]
	order := map[string]string{"state": []string{"open", "closed", "half-open"}[r.IntN(3)], "reason": "soak", "scope": []string{"instance", "fleet"}[r.IntN(2)]}
	if order["state"] != "half-open" && (!soakRoutes[service].endless || r.IntN(2) == 0) {
		order["duration"] = fmt.Sprintf("%dms", 300+r.IntN(1500))
	}
	s.faults.add("operator: " + order["state"] + ", " + order["scope"])
	s.order(p, service, order)
	if r.IntN(3) == 0 && order["duration"] != "" {
		return func() {} // it ends by itself
	}
	return func() {
		s.order(p, service, map[string]string{"state": "auto", "scope": order["scope"]})
	}
}

// order reports whether a force-state request succeeded. It may fail for a fleet while Redis is down, and
// for an instance while it is down.
func (s *soak) order(p *soakProxy, service string, order map[string]string) bool {
	body, err := json.Marshal(order)
	if err != nil {
		s.t.Fatal(err)
	}
	downs := p.downs.Load()
	r, err := http.NewRequest(http.MethodPost, p.AdminURL+"/api/v1/circuit-breakers/"+service+"/force-state", strings.NewReader(string(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+harness.AdminToken)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		if p.upSince(downs) {
			s.complain("no answer", "%s to instance %d: %v", body, p.n, err)
		}
		return false
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK && (order["scope"] != "fleet" || res.StatusCode != http.StatusServiceUnavailable) && p.upSince(downs) {
		s.complain("operator", "%s to instance %d: %d %s", body, p.n, res.StatusCode, text)
	}
	return res.StatusCode == http.StatusOK
}
