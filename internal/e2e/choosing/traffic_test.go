package choosing

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// phase is a part of the traffic of a run. Its times are those of the page.
type phase struct {
	length time.Duration
	gap    time.Duration // between calls, on average
	faulty bool          // the upstream's fault is on
}

// interval has what happened to the calls of one row of a recording, by outcome: answered, a status that the upstream responded
// with, or the reason of a fallback.
type interval struct {
	calls    int
	outcomes map[string]int
	state    string // of the breaker when it decided the last call
	last     int    // number of that call
}

// count returns the number of calls whose outcome is included.
func (i *interval) count(includes func(outcome string) bool) (n int) {
	for outcome, calls := range i.outcomes {
		if includes(outcome) {
			n += calls
		}
	}
	return n
}

const answered = "answered" // the outcome of a call to which the upstream responded with 200

// sendTraffic sends the traffic of the scenario, without waiting for a response before the next call, and records a row for each
// r.row of it. A call belongs to the row in which it was due. If this machine is too slow, the traffic takes longer: calls are never
// sent closer together to make up for a delay.
func (r *route) sendTraffic(t *testing.T, p *harness.Proxy) {
	t.Helper()
	total := time.Duration(0)
	for _, ph := range r.traffic {
		total += ph.length
	}
	rows := make([]interval, (total+r.row-1)/r.row)
	for i := range rows {
		rows[i].outcomes = map[string]int{}
	}
	var (
		mu        sync.Mutex // guards rows
		calls     sync.WaitGroup
		number    int
		start     time.Duration // of the phase
		random    = rand.New(rand.NewPCG(1, 1))
		transport = &http.Transport{MaxIdleConnsPerHost: 100}
	)
	defer transport.CloseIdleConnections()
	for _, ph := range r.traffic {
		r.upstream.setFaulty(ph.faulty)
		for at := ph.gap / 2; at < ph.length; {
			row := &rows[(start+at)/r.row]
			number++
			call := number
			calls.Go(func() {
				outcome, state := get(t, transport, p.URL+"/"+r.name)
				mu.Lock()
				defer mu.Unlock()
				row.calls++
				row.outcomes[outcome]++
				if call > row.last {
					row.last, row.state = call, state
				}
			})
			gap := time.Duration(float64(ph.gap) * (0.5 + random.Float64()))
			time.Sleep(r.faster(gap))
			at += gap
		}
		start += ph.length
	}
	calls.Wait()
	r.run.rows = rows
}

// get sends a request and returns its outcome and the state of the breaker that decided it.
func get(t *testing.T, transport http.RoundTripper, url string) (outcome, state string) {
	res, err := (&http.Client{Transport: transport, Timeout: harness.EventTimeout}).Get(url)
	if err != nil {
		t.Error(err)
		return "error", ""
	}
	_ = res.Body.Close()
	state = res.Header.Get("X-Circuit-Breaker-State")
	if reason := res.Header.Get("X-Fallback-Reason"); reason != "" {
		return reason, state
	}
	if res.StatusCode == http.StatusOK {
		return answered, state
	}
	return res.Status[:3], state
}
