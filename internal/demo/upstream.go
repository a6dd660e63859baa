// Package demo provides the environment of `cbproxy demo`: five upstreams that can be broken, clients, and a guided tour.
package demo

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is a fault of an upstream.
type Fault string

// The faults that an upstream's switch can be set to.
const (
	Fine   Fault = "fine"   // none
	Dead   Fault = "dead"   // nothing listens at its address
	Slow   Fault = "slow"   // responses take longer than Timeout
	Errors Fault = "errors" // every response is a 500
	Flaky  Fault = "flaky"  // half of the responses are 500s
)

// Faults lists every fault.
var Faults = []Fault{Fine, Dead, Slow, Errors, Flaky}

// Timeout is the timeout of the routes in the demo. A slow upstream takes longer.
const Timeout = time.Second

// Upstream simulates one service. It is safe for concurrent use.
type Upstream struct {
	// Service, Prefix and Address are for the proxy's configuration.
	Service, Prefix, Address string

	body     string
	fault    atomic.Value // Fault
	requests atomic.Int64
	mu       sync.Mutex    // guards the fields below
	server   *http.Server  // nil while the fault is Dead
	ended    chan struct{} // closed when server has ended
}

// Upstreams starts the five services.
func Upstreams() ([]*Upstream, error) {
	all := []*Upstream{
		{Service: "rag_service", Prefix: "/rag", body: `{"linked_explanation":"Door 7 was open for 12 minutes.","retrieved_context":["camera 4","door log"],"confidence_score":0.93}`},
		{Service: "rule_generation_service", Prefix: "/rules", body: `{"rules_triggered":["door_open_too_long"],"severity":"high","confidence":0.9}`},
		{Service: "notifier_service", Prefix: "/notify", body: `{"status":"sent"}`},
		{Service: "vms_service", Prefix: "/vms", body: `{"status":"ok","cameras":[{"id":4,"online":true}]}`},
		{Service: "prediction_service", Prefix: "/predict", body: `{"predictions":[{"event":"tailgating","p":0.12}],"confidence":0.8}`},
	}
	for i, u := range all {
		u.Address = "127.0.0.1:0"
		u.fault.Store(Fine)
		if err := u.listen(); err != nil {
			Close(all[:i])
			return nil, fmt.Errorf("start the simulated %s: %w", u.Service, err)
		}
	}
	return all, nil
}

// Close stops upstreams.
func Close(all []*Upstream) {
	for _, u := range all {
		u.stop()
	}
}

// listen starts the server at u.Address.
func (u *Upstream) listen() error {
	l, err := net.Listen("tcp", u.Address)
	if err != nil {
		return err
	}
	u.Address = l.Addr().String() // a restarted upstream has the same address
	server, ended := &http.Server{Handler: u, ReadHeaderTimeout: Timeout}, make(chan struct{})
	u.server, u.ended = server, ended
	go func() {
		_ = server.Serve(l) // returns when the server is closed
		close(ended)
	}()
	return nil
}

// stop closes the server and all its connections.
func (u *Upstream) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.server != nil {
		_ = u.server.Close() // also closes connections in use
		<-u.ended
		u.server = nil
	}
}

// Set sets the fault.
func (u *Upstream) Set(f Fault) error {
	if !slices.Contains(Faults, f) {
		return fmt.Errorf("the fault must be one of %v, got %q", Faults, f)
	}
	u.fault.Store(f)
	if f == Dead {
		u.stop()
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.server != nil {
		return nil
	}
	if err := u.listen(); err != nil {
		return fmt.Errorf("restart %s: %w", u.Service, err)
	}
	return nil
}

// Fault returns the current fault.
func (u *Upstream) Fault() Fault { return u.fault.Load().(Fault) }

// Requests returns the number of requests received.
func (u *Upstream) Requests() int64 { return u.requests.Load() }

// ServeHTTP responds according to the fault.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.requests.Add(1)
	_, _ = io.Copy(io.Discard, r.Body)
	fault := u.Fault()
	if fault == Slow {
		select {
		case <-time.After(3 * Timeout):
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if fault == Errors || fault == Flaky && rand.IntN(2) == 0 { // #nosec G404 -- a simulated fault
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"error":"simulated error"}`)
		return
	}
	_, _ = io.WriteString(w, u.body)
}

// Traffic calls every service through the proxy at base, four times per second, until ctx is done. It ignores the responses.
func Traffic(ctx context.Context, base string, all []*Upstream) {
	client := &http.Client{Timeout: 4 * Timeout}
	var callers sync.WaitGroup
	for _, u := range all {
		callers.Go(func() {
			ticker := time.NewTicker(250 * time.Millisecond)
			defer ticker.Stop()
			for n := 1; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				callers.Go(func() { _, _ = call(ctx, client, base+u.Prefix, u, n) })
			}
		})
	}
	callers.Wait()
}

// call sends one request and describes the response.
func call(ctx context.Context, client *http.Client, url string, u *Upstream, n int) (got string, err error) {
	method, body := http.MethodGet, ""
	if u.Service == "notifier_service" {
		method, body = http.MethodPost, fmt.Sprintf(`{"alert":%d}`, n)
	}
	r, err := http.NewRequestWithContext(ctx, method, url+"/demo", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	res, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	content, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	fallback := ""
	if s := res.Header.Get("X-Fallback"); s != "" {
		fallback = fmt.Sprintf(" (fallback: %s, reason: %s)", s, res.Header.Get("X-Fallback-Reason"))
	}
	return fmt.Sprintf("%s%s\n    %s", res.Status, fallback, strings.TrimSpace(string(content))), err
}
