package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// migration moves two services through the phases of docs/migration.md, while their callers send requests all the time.
type migration struct {
	t        *testing.T
	p        *harness.Proxy
	rag, vms *migratedService
	callers  []*caller
	recovery string          // recovery_timeout of cbproxy's breakers in seconds
	enforced map[string]bool // by service: the configuration enforces its breaker
}

// config returns the proxy's configuration for the current state of the migration.
func (m *migration) config() string {
	var b strings.Builder
	b.WriteString("routes:\n")
	for _, s := range []*migratedService{m.rag, m.vms} {
		mode := "shadow"
		if m.enforced[s.name] {
			mode = "enforce"
		}
		fmt.Fprintf(&b, "  %s: {upstream: %s, fallback_enabled: %t, breaker: {mode: %s, fail_max: 3, recovery_timeout: %s}}\n",
			s.name, s.upstream.URL(), m.enforced[s.name], mode, m.recovery)
	}
	return b.String()
}

func startMigration(t *testing.T) *migration {
	t.Helper()
	m := &migration{t: t, recovery: "60", enforced: map[string]bool{}}
	m.rag = &migratedService{t: t, name: "rag_service", upstream: harness.StartUpstream(t)}
	m.vms = &migratedService{t: t, name: "vms_service", upstream: harness.StartUpstream(t)}
	m.p = harness.StartProxy(t, harness.Options{Config: m.config()})
	m.rag.proxyURL, m.vms.proxyURL = m.p.URL+"/rag", m.p.URL+"/vms"
	done, running := make(chan struct{}), new(sync.WaitGroup)
	t.Cleanup(func() {
		close(done)
		running.Wait()
	})
	for _, s := range []*migratedService{m.rag, m.vms} {
		for range 2 {
			c := newCaller(s)
			s.callers = append(s.callers, c)
			m.callers = append(m.callers, c)
			running.Go(func() { c.run(done) })
		}
	}
	return m
}

// awaitTenMore waits until a counter of each caller has grown by ten.
func awaitTenMore(t *testing.T, what string, callers []*caller, counter func(*caller) int64) {
	t.Helper()
	for _, c := range callers {
		before := counter(c)
		harness.Eventually(t, c.service.name+": ten more "+what, func() bool { return counter(c) >= before+10 })
	}
}

func calls(c *caller) int64      { return c.calls.Load() }
func successes(c *caller) int64  { return c.successes.Load() }
func fallbacks(c *caller) int64  { return c.fallbacks.Load() }
func rejections(c *caller) int64 { return c.rejections.Load() }

// setEnforced enforces cbproxy's breaker of a service, or returns it to shadow mode, with one change of the
// configuration.
func (m *migration) setEnforced(s *migratedService, on bool) {
	m.t.Helper()
	s.setEnforcement(changing)
	m.enforced[s.name] = on
	m.p.ReplaceConfig(m.config())
	harness.Eventually(m.t, fmt.Sprintf("the change of %s is applied", s.name), func() bool {
		return m.p.Metric(fmt.Sprintf("cbproxy_enforced{service=%q}", s.name)) == map[bool]float64{true: 1}[on]
	})
	if !on {
		awaitTenMore(m.t, "calls", s.callers, calls) // afterwards no call from before the change is in flight
		s.setEnforcement(shadowed)
		return
	}
	awaitTenMore(m.t, "calls permitted by the caller's breaker", s.callers, func(c *caller) int64 { return successes(c) + fallbacks(c) })
	s.setEnforcement(enforced)
}

// TestMigrationFailsNoRequests goes through the phases of docs/migration.md, from the callers' own breakers to
// cbproxy's, while upstreams are killed and restarted under load. No request may fail that would have succeeded without
// cbproxy.
func TestMigrationFailsNoRequests(t *testing.T) {
	t.Parallel()
	m := startMigration(t)

	// Phase 1: one caller uses cbproxy.
	m.rag.callers[0].url.Store(&m.rag.proxyURL)
	awaitTenMore(t, "successes", m.callers, successes)
	m.rag.killUpstream()
	awaitTenMore(t, "rejections by the caller's breaker", m.rag.callers, rejections)
	m.rag.restartUpstream()
	awaitTenMore(t, "successes, although cbproxy's breaker may be open", m.callers, successes)

	// Phase 2: all callers use cbproxy in shadow mode.
	for _, c := range m.callers {
		c.url.Store(&c.service.proxyURL)
	}
	for _, s := range []*migratedService{m.vms, m.rag} {
		s.killUpstream()
		awaitTenMore(t, "rejections by the caller's breaker", s.callers, rejections)
		series := fmt.Sprintf(`cbproxy_state_changes_total{service=%q,to="open"}`, s.name)
		harness.Eventually(t, "cbproxy's breaker opens", func() bool { return m.p.Metric(series) > 0 })
		s.restartUpstream()
		awaitTenMore(t, "successes, although cbproxy's breaker is open", s.callers, successes)
		if n := m.p.Metric(fmt.Sprintf(`cbproxy_shadow_rejections_total{reason="open",service=%q}`, s.name)); n < 10 {
			t.Errorf("%s: %v shadow rejections, want at least 10", s.name, n)
		}
	}
	m.recovery = "0.1"
	m.p.ReplaceConfig(m.config())

	// Phase 3: the breaker of one service is enforced, the other one is not.
	m.setEnforced(m.rag, true)
	openings := m.rag.callers[0].breakerOpenings.Load() + m.rag.callers[1].breakerOpenings.Load()
	m.rag.killUpstream()
	awaitTenMore(t, "fallbacks", m.rag.callers, fallbacks)
	m.vms.killUpstream()
	awaitTenMore(t, "rejections by the caller's breaker", m.vms.callers, rejections)
	m.vms.restartUpstream()
	m.rag.restartUpstream()
	awaitTenMore(t, "successes", m.callers, successes)
	if now := m.rag.callers[0].breakerOpenings.Load() + m.rag.callers[1].breakerOpenings.Load(); now != openings {
		t.Errorf("the callers' breakers opened %d times although cbproxy's is enforced", now-openings)
	}

	// Back to shadow mode and enforced again, during an outage.
	m.rag.killUpstream()
	awaitTenMore(t, "fallbacks", m.rag.callers, fallbacks)
	m.setEnforced(m.rag, false)
	awaitTenMore(t, "rejections by the caller's breaker", m.rag.callers, rejections)
	m.setEnforced(m.rag, true)
	awaitTenMore(t, "fallbacks", m.rag.callers, fallbacks)
	m.rag.restartUpstream()
	m.setEnforced(m.vms, true)
	awaitTenMore(t, "successes", m.callers, successes)

	// Phase 4: the callers have no breakers any more.
	for _, c := range m.callers {
		c.breaker.Store(nil)
	}
	for _, s := range []*migratedService{m.rag, m.vms} {
		s.killUpstream()
		awaitTenMore(t, "fallbacks", s.callers, fallbacks)
	}
	m.rag.restartUpstream()
	m.vms.restartUpstream()
	awaitTenMore(t, "successes", m.callers, successes)
}
