package endpoints

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// rate is the time between two calls of a load.
const rate = 5 * time.Millisecond // 200 calls a second

// traffic sends calls at a constant rate, without waiting for a response before the next call.
type traffic struct {
	t      testing.TB
	url    string
	method string
	client *http.Client

	calls sync.WaitGroup
	mu    sync.Mutex
	sent  int
	// failed are the calls without status 200, by their number, counted from 0.
	failed map[int]string
}

func newTraffic(p *harness.Proxy, method string) *traffic {
	return newTrafficTo(p.T, p.URL+"/svc", method)
}

func newTrafficTo(t testing.TB, url, method string) *traffic {
	transport := &http.Transport{MaxIdleConnsPerHost: 200}
	t.Cleanup(transport.CloseIdleConnections)
	return &traffic{
		t: t, url: url, method: method, client: &http.Client{Transport: transport, Timeout: harness.EventTimeout}, failed: map[int]string{},
	}
}

// send sends n calls. If this machine is too slow, that takes longer: calls are not sent closer together to make up for it.
func (tr *traffic) send(n int) {
	due := time.NewTicker(rate)
	defer due.Stop()
	for range n {
		number := tr.sent
		tr.sent++
		tr.calls.Go(func() {
			if outcome := tr.call(); outcome != "" {
				tr.mu.Lock()
				defer tr.mu.Unlock()
				tr.failed[number] = outcome
			}
		})
		<-due.C
	}
}

// background sends calls until stop is called, which waits for all responses.
func (tr *traffic) background() (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ended:
				return
			default:
				tr.send(10)
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		close(ended)
		<-done
		tr.calls.Wait()
	})
	tr.t.Cleanup(stop)
	return stop
}

// call sends one call and returns why it has failed; "" if it has not.
func (tr *traffic) call() (failure string) {
	r, err := http.NewRequest(tr.method, tr.url, strings.NewReader(""))
	if err != nil {
		return err.Error()
	}
	r.Header.Set("User-Agent", "test")
	res, err := tr.client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err.Error()
	}
	if res.StatusCode != http.StatusOK {
		return res.Status
	}
	return ""
}

// failures are calls that have failed.
type failures struct {
	n       int
	reasons map[string]int
}

// failedFrom waits for all responses and returns the failed calls from number first on.
func (tr *traffic) failedFrom(first int) failures { return tr.failedBetween(first, tr.sent) }

// failedBetween is failedFrom without the calls from number end on.
func (tr *traffic) failedBetween(first, end int) failures {
	tr.calls.Wait()
	f := failures{reasons: map[string]int{}}
	for number, outcome := range tr.failed {
		if number >= first && number < end {
			f.n++
			f.reasons[outcome]++
		}
	}
	return f
}
