package queue_test

import (
	"slices"
	"testing"

	"cbproxy/internal/redistest"
)

// alive reports whether Redis has a heartbeat of an instance.
func (s *instance) alive(server *redistest.Server) bool {
	n, err := server.Client().Exists(s.t.Context(), "cbproxy_queue:{svc}:alive:"+s.store.ID()).Result()
	return err == nil && n > 0
}

// An instance whose copies are disabled by a reload removes them before its heartbeat ends, so that no other instance takes them over.
func TestDisablingCopiesRemovesThem(t *testing.T) {
	redistest.Need(t)
	t.Parallel()
	server := redistest.Start(t)
	to := &sharedUpstream{from: map[string]int{}}
	a, b := startInstance(t, "a", server.URL(), to, quickTimings), startInstance(t, "b", server.URL(), to, quickTimings)
	sent := numbered("m", 20)
	a.accept(sent...)
	eventually(t, "all have copies", func() bool { return copies(t, server) == 20 })
	a.unshared.Store(true)
	eventually(t, "a has no heartbeat", func() bool { return !a.alive(server) })
	if n := copies(t, server); n != 0 {
		t.Errorf("there are still %d copies", n)
	}
	a.accept("m20")
	a.unshared.Store(false)
	eventually(t, "all have copies again", func() bool { return copies(t, server) == 21 })
	a.unshared.Store(true)
	to.set(true)
	eventually(t, "a has delivered all", func() bool { return a.queues.Status("svc").Waiting == 0 })
	if got := to.taken(); !slices.Equal(got, append(sent, "m20")) || to.count("a") != 21 || b.queues.Status("svc").TakenOver != 0 {
		t.Errorf("delivered: %q", got)
	}
}

// An instance that is started with copies disabled delivers nothing that was taken over while it had copies.
func TestInstanceWithoutCopiesReleasesMessages(t *testing.T) {
	redistest.Need(t)
	t.Parallel()
	server := redistest.Start(t)
	to := &sharedUpstream{from: map[string]int{}}
	a, b := startInstance(t, "a", server.URL(), to, quickTimings), startInstance(t, "b", server.URL(), to, quickTimings)
	a.accept(numbered("m", 20)...)
	eventually(t, "all have copies", func() bool { return copies(t, server) == 20 })
	a.stop()
	eventually(t, "b has taken over", func() bool { return b.queues.Status("svc").TakenOver == 20 })
	a.unshared.Store(true)
	a.start()
	eventually(t, "a has released its messages", func() bool { s := a.queues.Status("svc"); return s.Released == 20 && s.Waiting == 0 })
	eventually(t, "a has no heartbeat", func() bool { return !a.alive(server) })
	if n := copies(t, server); n != 20 {
		t.Errorf("b has %d copies", n)
	}
}

// An instance whose policy was removed by a reload takes over no messages, because it could not deliver them, until it is configured again.
func TestUnconfiguredInstanceTakesOverNothing(t *testing.T) {
	redistest.Need(t)
	t.Parallel()
	server := redistest.Start(t)
	to := &sharedUpstream{from: map[string]int{}}
	a, b := startInstance(t, "a", server.URL(), to, quickTimings), startInstance(t, "b", server.URL(), to, quickTimings)
	a.accept("a0")
	b.accept("b0")
	eventually(t, "all have copies", func() bool { return copies(t, server) == 2 })
	b.queues.RemovePolicies(func(service string) bool { return service != "svc" })
	a.crash()
	eventually(t, "a has no heartbeat", func() bool { return !a.alive(server) })
	c := startInstance(t, "c", server.URL(), to, quickTimings)
	eventually(t, "c has taken over", func() bool { return c.queues.Status("svc").TakenOver == 1 })
	c.stop()
	to.set(true)
	eventually(t, "b delivers its own message", func() bool { return b.queues.Status("svc").Waiting == 0 })
	b.queues.RemovePolicies(func(string) bool { return true }) // changes nothing
	b.accept("b1")
	eventually(t, "b delivers its own message", func() bool { return to.count("b") == 2 })
	if s := b.queues.Status("svc"); s.TakenOver != 0 {
		t.Errorf("b has taken over: %+v", s)
	}
	b.configure()
	eventually(t, "b takes over", func() bool { return b.queues.Status("svc").TakenOver == 1 && to.count("b") == 3 })
}
