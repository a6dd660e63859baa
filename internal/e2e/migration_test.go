package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// migration is two services' way through the four phases, with callers that never pause.
type migration struct {
	t        *testing.T
	p        *harness.Proxy
	rag, vms *migrating
	callers  []*migrant
	recovery string          // seconds for which cbproxy's breakers are open
	enforced map[string]bool // the services that the file says it of
}

// config is the file as it is to be.
func (m *migration) config() string {
	var b strings.Builder
	b.WriteString("routes:\n")
	for _, s := range []*migrating{m.rag, m.vms} {
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
	m.rag = &migrating{t: t, name: "rag_service", upstream: harness.StartUpstream(t)}
	m.vms = &migrating{t: t, name: "vms_service", upstream: harness.StartUpstream(t)}
	m.p = harness.StartProxy(t, harness.Options{Config: m.config()})
	m.rag.through, m.vms.through = m.p.URL+"/rag", m.p.URL+"/vms"
	over, working := make(chan struct{}), new(sync.WaitGroup)
	t.Cleanup(func() {
		close(over)
		working.Wait()
	})
	for _, s := range []*migrating{m.rag, m.vms} {
		for range 2 {
			c := newMigrant(s)
			s.callers = append(s.callers, c)
			m.callers = append(m.callers, c)
			working.Go(func() { c.work(over) })
		}
	}
	return m
}

// grows waits until a number of each caller has grown by some.
func grows(t *testing.T, what string, callers []*migrant, number func(*migrant) int64) {
	t.Helper()
	for _, c := range callers {
		before := number(c)
		harness.Eventually(t, c.service.name+": more "+what, func() bool { return number(c) >= before+10 })
	}
}

func calls(c *migrant) int64 { return c.calls.Load() }

func answered(c *migrant) int64 { return c.answered.Load() }

func stoodIn(c *migrant) int64 { return c.stoodIn.Load() }

func refused(c *migrant) int64 { return c.refused.Load() }

// enforce makes one edit of one service, or takes it back.
func (m *migration) enforce(s *migrating, on bool) {
	m.t.Helper()
	s.move(moving)
	m.enforced[s.name] = on
	m.p.ReplaceConfig(m.config())
	harness.Eventually(m.t, fmt.Sprintf("the edit of %s is in force", s.name), func() bool {
		return m.p.Metric(fmt.Sprintf("cbproxy_enforced{service=%q}", s.name)) == map[bool]float64{true: 1}[on]
	})
	if !on {
		grows(m.t, "calls", s.callers, calls) // none from before it is under way any more
		s.move(shadowed)
		return
	}
	grows(m.t, "calls get through the old breaker", s.callers, func(c *migrant) int64 { return answered(c) + stoodIn(c) })
	s.move(enforced)
}

// The way from the callers' own breakers to cbproxy's, as docs/migration.md tells it: while upstreams die
// and come back under traffic, no request fails in any phase that would not have failed before.
func TestMigrationFailsNoRequests(t *testing.T) {
	t.Parallel()
	m := startMigration(t)

	// Beside the old breaker: one caller goes through cbproxy.
	m.rag.callers[0].url.Store(&m.rag.through)
	grows(t, "answers", m.callers, answered)
	m.rag.die()
	grows(t, "refusals by the old breaker", m.rag.callers, refused)
	m.rag.comeBack()
	grows(t, "answers, past a shadow that may be open", m.callers, answered)

	// All go through it, still shadow.
	for _, c := range m.callers {
		c.url.Store(&c.service.through)
	}
	for _, s := range []*migrating{m.vms, m.rag} {
		s.die()
		grows(t, "refusals by the old breaker", s.callers, refused)
		series := fmt.Sprintf(`cbproxy_state_changes_total{service=%q,to="open"}`, s.name)
		harness.Eventually(t, "cbproxy's has opened as well", func() bool { return m.p.Metric(series) > 0 })
		s.comeBack()
		grows(t, "answers, past an open shadow", s.callers, answered)
		if n := m.p.Metric(fmt.Sprintf(`cbproxy_shadow_rejections_total{reason="open",service=%q}`, s.name)); n < 10 {
			t.Errorf("%s: %v would have been refused", s.name, n)
		}
	}
	m.recovery = "0.1"
	m.p.ReplaceConfig(m.config())

	// One is enforced, the other one not.
	m.enforce(m.rag, true)
	opened := m.rag.callers[0].opened.Load() + m.rag.callers[1].opened.Load()
	m.rag.die()
	grows(t, "fallbacks", m.rag.callers, stoodIn)
	m.vms.die()
	grows(t, "refusals by the old breaker", m.vms.callers, refused)
	m.vms.comeBack()
	m.rag.comeBack()
	grows(t, "answers", m.callers, answered)
	if now := m.rag.callers[0].opened.Load() + m.rag.callers[1].opened.Load(); now != opened {
		t.Errorf("the old breakers opened %d times behind cbproxy", now-opened)
	}

	// Back and forth, while it is dead.
	m.rag.die()
	grows(t, "fallbacks", m.rag.callers, stoodIn)
	m.enforce(m.rag, false)
	grows(t, "refusals by the old breaker", m.rag.callers, refused)
	m.enforce(m.rag, true)
	grows(t, "fallbacks", m.rag.callers, stoodIn)
	m.rag.comeBack()
	m.enforce(m.vms, true)
	grows(t, "answers", m.callers, answered)

	// Without the old ones.
	for _, c := range m.callers {
		c.own.Store(nil)
	}
	for _, s := range []*migrating{m.rag, m.vms} {
		s.die()
		grows(t, "fallbacks", s.callers, stoodIn)
	}
	m.rag.comeBack()
	m.vms.comeBack()
	grows(t, "answers", m.callers, answered)
}
