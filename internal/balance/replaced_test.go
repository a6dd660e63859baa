package balance_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/balance"
	"cbproxy/internal/events"
)

// replace puts the configuration into effect, as start does, but requests still use the set that it returns, which the caller closes.
func (s *service) replace() (previous *balance.Set) {
	previous = s.Set
	s.Set = balance.New(s.config, previous)
	s.Start()
	previous.StopLookups()
	return previous
}

// An endpoint that is ejected because of requests of an earlier configuration gets its trial under the present one.
func TestFailuresOfAnEarlierConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, policy("round_robin"), a, b).start()
		var leases []balance.Lease
		for len(leases) < 5 {
			if l := s.pick(); l.URL == b {
				leases = append(leases, l)
			} else {
				l.Release()
			}
		}
		previous := s.replace()
		defer func() { s.Close() }()
		for i := range leases {
			leases[i].Failed(failure)
			leases[i].Release()
		}
		previous.Close()
		if got := s.ejected(); !slices.Equal(got, []string{b}) {
			t.Fatalf("%v are ejected, want b", got)
		}
		time.Sleep(30 * time.Second)
		trial := s.pick()
		if trial.URL != b {
			t.Fatalf("the trial went to %s", trial.URL)
		}
		// The trial itself ends after another change of the configuration.
		previous = s.replace()
		trial.Failed(failure)
		trial.Release()
		previous.Close()
		s.call(b) // the request after a failed trial is none
		time.Sleep(time.Minute)
		if got := s.call(); got != b || len(s.ejected()) > 0 {
			t.Errorf("the second trial went to %s, and %v are ejected", got, s.ejected())
		}
	})
}

// Requests of an earlier configuration eject no more endpoints than the present one allows, and none that it does not have.
func TestEjectionsOfAnEarlierConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, policy("round_robin"), a, b, c).start()
		failAll := func(set *balance.Set) {
			for range 30 {
				l, err := set.Pick(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				l.Failed(failure)
				l.Release()
			}
		}
		s.config.Sources = s.config.Sources[:2]
		previous := s.replace()
		defer s.Close()
		failAll(previous)
		previous.Close()
		if got := s.ejected(); len(got) != 1 {
			t.Errorf("of two endpoints, %v are ejected", got)
		}
		for _, e := range s.published {
			if e, ok := e.(events.EndpointChanged); ok && e.Endpoint == c {
				t.Errorf("an endpoint that has been removed: %+v", e)
			}
		}
	})
}

// A request that waits for the first lookup gets its result, even if another configuration is put into effect meanwhile.
func TestReloadDuringTheFirstLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, policy("round_robin"))
		s.addSource("http://rag:8000", true)
		s.config.Lookup = func(ctx context.Context, _ string) ([]netip.Addr, error) {
			select {
			case <-time.After(time.Second):
				return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		s.start()
		picked := make(chan error)
		go func(set *balance.Set) {
			l, err := set.Pick(t.Context())
			l.Release()
			picked <- err
		}(s.Set)
		synctest.Wait()
		previous := s.replace()
		if err := <-picked; err != nil {
			t.Errorf("a request that has waited for the lookup: %v", err)
		}
		previous.Close()
		s.Close()
	})
}
