package balance_test

import (
	"fmt"
	"testing"

	"cbproxy/internal/balance"
)

// The cost for a request of a choice and its report.
func BenchmarkPick(b *testing.B) {
	for _, name := range []string{"least_in_flight", "round_robin"} {
		for _, n := range []int{1, 3, 64} {
			b.Run(fmt.Sprint(name, "/", n), func(b *testing.B) {
				s := newService(nil, policy(name))
				for i := range n {
					s.addSource(fmt.Sprint("http://", i, ":1"), false)
				}
				s.start()
				defer s.Close()
				b.ReportAllocs()
				for b.Loop() {
					pickOnce(b, s.Set)
				}
			})
		}
	}
}

func pickOnce(t testing.TB, s *balance.Set) {
	lease, err := s.Pick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lease.Succeeded()
	lease.Release()
}

// A choice allocates nothing, however many endpoints there are and whatever their state.
func TestPickDoesNotAllocate(t *testing.T) {
	for _, name := range []string{"least_in_flight", "round_robin"} {
		for _, n := range []int{1, 3, 64} {
			s := newService(t, policy(name))
			for i := range n {
				s.addSource(fmt.Sprint("http://", i, ":1"), false)
			}
			s.start()
			for n > 1 && len(s.ejected()) == 0 {
				s.call("http://1:1")
			}
			if got := testing.AllocsPerRun(100, func() { pickOnce(t, s.Set) }); got > 0 {
				t.Errorf("%s of %d endpoints: %v allocations", name, n, got)
			}
			s.Close()
		}
	}
}
