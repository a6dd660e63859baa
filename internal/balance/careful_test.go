package balance_test

import (
	"fmt"
	"slices"
	"testing"
)

// When several endpoints die at once, successes come between their failures, so that they are ejected before a breaker that opens after five
// failures in a row does.
func TestDeadEndpointsDoNotFailTheServiceInARow(t *testing.T) {
	for _, name := range []string{"round_robin", "least_in_flight"} {
		for _, tt := range []struct{ endpoints, dead int }{{2, 1}, {3, 2}, {4, 2}, {5, 4}, {10, 4}} {
			for range 50 {
				p := policy(name)
				p.MaxRatio = 1
				s := newService(t, p)
				var dead []string
				for i := range tt.endpoints {
					url := fmt.Sprint("http://", i, ":1")
					s.addSource(url, false)
					if i < tt.dead {
						dead = append(dead, url)
					}
				}
				s.start()
				row := 0
				for n := 0; len(s.ejected()) < tt.dead; n++ {
					if row++; !slices.Contains(dead, s.call(dead...)) {
						row = 0
					}
					if row > tt.dead || n > 1000 {
						t.Fatalf("%s, %d of %d endpoints are dead: %d calls have failed in a row, %v are ejected after %d calls", name, tt.dead, tt.endpoints, row, s.ejected(), n)
					}
				}
				s.Close()
			}
		}
	}
}

// An endpoint that does not answer gets no further request when it has five and another one has none in flight.
func TestHangingEndpointsGetFewRequests(t *testing.T) {
	s := newService(t, policy("least_in_flight"), a, b, c).start()
	defer s.Close()
	hanging := map[string]int{}
	for range 200 {
		lease := s.pick()
		if lease.URL != c {
			hanging[lease.URL]++
			continue
		}
		lease.Succeeded()
		lease.Release()
	}
	if hanging[a] > 5 || hanging[b] > 5 {
		t.Errorf("requests of the endpoints that hang: %v", hanging)
	}
}
