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

// faultCounts counts the injected faults. It is safe for concurrent use.
type faultCounts struct {
	mu     sync.Mutex
	byKind map[string]int // guarded by mu
}

func (f *faultCounts) add(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byKind == nil {
		f.byKind = map[string]int{}
	}
	f.byKind[kind]++
}

func (f *faultCounts) total() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.byKind {
		n += c
	}
	return n
}

// injectFaults injects faults of all kinds concurrently for the given time, then ends them.
func (s *soakTest) injectFaults(round int, duration time.Duration) {
	stop := make(chan struct{})
	var injectors sync.WaitGroup
	inject := func(kind string, n int, maxInterval, maxDuration time.Duration, begin func(r *rand.Rand) (end func())) {
		r := s.random(kind, round*100+n)
		injectors.Go(func() {
			for sleepUnlessStopped(stop, r, maxInterval) {
				end := begin(r)
				sleepUnlessStopped(stop, r, maxDuration)
				end()
			}
		})
	}
	for n, name := range upstreamNames {
		u := s.upstreams[name]
		inject("upstream", n, 3*time.Second, 2500*time.Millisecond, func(r *rand.Rand) func() { return s.beginUpstreamFault(u, r) })
	}
	inject("redis", 0, 3*time.Second, 3*time.Second, s.beginRedisFault)
	inject("edits", 0, 600*time.Millisecond, 300*time.Millisecond, s.editConfig)
	inject("kills", 0, 2*time.Second, time.Second, s.stopInstance)
	inject("operator", 0, 500*time.Millisecond, time.Second, s.forceBreaker)
	time.Sleep(duration)
	close(stop)
	injectors.Wait()
}

// sleepUnlessStopped sleeps for a random time up to limit. It returns false as soon as stop is closed.
func sleepUnlessStopped(stop <-chan struct{}, r *rand.Rand, limit time.Duration) bool {
	select {
	case <-stop:
		return false
	case <-time.After(time.Duration(r.Int64N(int64(limit)))):
		return true
	}
}

func (s *soakTest) beginUpstreamFault(u *upstream, r *rand.Rand) (end func()) {
	switch r.IntN(5) {
	case 0, 1:
		s.faults.add("upstream killed")
		u.Kill()
		return u.Start
	case 2:
		s.faults.add("upstream paused")
		u.Pause()
		return u.Resume
	}
	mode := faultModes[r.IntN(len(faultModes))]
	s.faults.add("upstream " + mode)
	u.setMode(mode)
	return func() { u.setMode(modeHealthy) }
}

func (s *soakTest) beginRedisFault(r *rand.Rand) (end func()) {
	switch r.IntN(4) {
	case 0:
		s.faults.add("redis paused")
		s.redis.Pause()
		return s.redis.Resume
	case 1:
		s.faults.add("redis CLIENT PAUSE")
		_ = s.client.Do(s.t.Context(), "CLIENT", "PAUSE", 200+r.IntN(2000), "ALL").Err() // Redis ends it after that time
		return func() {}
	case 2:
		s.faults.add("redis flushed")
		_ = s.client.FlushAll(s.t.Context()).Err()
		return func() {}
	}
	s.faults.add("redis killed, restarted empty")
	s.redis.Kill()
	return s.redis.Restart
}

// editConfig replaces an instance's configuration with a valid or an invalid one. An invalid one must have no
// effect.
func (s *soakTest) editConfig(r *rand.Rand) (end func()) {
	p := s.fleet[r.IntN(len(s.fleet))]
	n := int(s.version.Add(1))
	kind := r.IntN(4)
	invalid := s.invalidConfig(r, n)
	p.control.Lock()
	defer p.control.Unlock()
	switch {
	case kind == 0:
		s.faults.add("invalid edit")
		before := p.Health()
		p.ReplaceConfig(invalid)
		p.invalidEdits++
		s.await("an invalid configuration is reported", func() error { return require(p.Health().Config.LastError != nil, "no last_error") })
		if after := p.Health(); after.Config.Hash != before.Config.Hash || after.Services["vms_service"].Configuration != before.Services["vms_service"].Configuration {
			s.reportf("invalid configuration in force", "before %+v, after %+v", before.Config, after.Config)
		}
		p.ReplaceConfig(s.config(n))
	case kind == 1 && !p.stable: // the proxy may read a partial file, which it counts as an invalid configuration
		s.faults.add("edit in place")
		p.WriteConfig(s.config(n))
	default:
		s.faults.add("edit")
		p.ReplaceConfig(s.config(n))
	}
	s.awaitConfig(p, n)
	return func() {}
}

// awaitConfig waits until version n of the configuration is in force at an instance.
func (s *soakTest) awaitConfig(p *instance, n int) {
	s.await("the configuration is in force", func() error {
		h := p.Health()
		timeout := h.Services["vms_service"].Configuration.Timeout
		return require(timeout == versionTimeout(n) && h.Config.LastError == nil, "instance %d: timeout %v, want %v; last error %v",
			p.n, timeout, versionTimeout(n), h.Config.LastError)
	})
}

// stopInstance kills or terminates an instance that is not stable. end starts it again.
func (s *soakTest) stopInstance(r *rand.Rand) (end func()) {
	p := s.fleet[stableInstances+r.IntN(fleetSize-stableInstances)]
	p.control.Lock()
	p.transitions.Add(1)
	if r.IntN(2) == 0 {
		s.faults.add("instance killed")
		p.Kill()
	} else {
		s.faults.add("instance terminated")
		p.Signal(syscall.SIGTERM)
		if status := p.Wait(); status != 0 {
			s.reportf("exit status", "status %d after SIGTERM", status)
		}
	}
	return func() {
		p.Start()
		p.transitions.Add(1)
		p.control.Unlock()
	}
}

// forceBreaker forces a breaker of one instance or of all instances. end releases it, unless it expires.
func (s *soakTest) forceBreaker(r *rand.Rand) (end func()) {
	p := s.fleet[r.IntN(len(s.fleet))]
	services := []string{"rag_service", "rule_generation_service", "notifier_service", "vms_service", "prediction_service", "media", "backup"}
	service := services[r.IntN(len(services))]
	body := map[string]string{"state": []string{"open", "closed", "half-open"}[r.IntN(3)], "reason": "soak", "scope": []string{"instance", "fleet"}[r.IntN(2)]}
	if body["state"] != "half-open" && (!routes[service].forcedIndefinitely || r.IntN(2) == 0) {
		body["duration"] = fmt.Sprintf("%dms", 300+r.IntN(1500))
	}
	s.faults.add("operator: " + body["state"] + ", " + body["scope"])
	s.forceState(p, service, body)
	if r.IntN(3) == 0 && body["duration"] != "" {
		return func() {} // it expires
	}
	return func() {
		s.forceState(p, service, map[string]string{"state": "auto", "scope": body["scope"]})
	}
}

// forceState sends a force-state request. It may fail for a fleet while Redis is down, and for an instance while it is
// down.
func (s *soakTest) forceState(p *instance, service string, body map[string]string) {
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	transitions := p.transitions.Load()
	r, err := http.NewRequest(http.MethodPost, p.AdminURL+"/api/v1/circuit-breakers/"+service+"/force-state", strings.NewReader(string(text)))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+harness.AdminToken)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		if p.upSince(transitions) {
			s.reportf("no response", "force-state %s at instance %d: %v", text, p.n, err)
		}
		return
	}
	defer res.Body.Close()
	response, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK && (body["scope"] != "fleet" || res.StatusCode != http.StatusServiceUnavailable) && p.upSince(transitions) {
		s.reportf("force-state failed", "%s at instance %d: %d %s", text, p.n, res.StatusCode, response)
	}
}
