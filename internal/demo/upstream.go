// Package demo holds what stands in for the world in `cbproxy demo`: five upstreams with switches,
// callers, and a guide.
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

// Fault is what is wrong with an upstream.
type Fault string

// The faults that an upstream's switch can be set to.
const (
	Fine   Fault = "fine"   // nothing
	Dead   Fault = "dead"   // nobody listens
	Slow   Fault = "slow"   // it answers after longer than anybody waits
	Errors Fault = "errors" // it answers 500
	Flaky  Fault = "flaky"  // it answers 500 half of the time
)

// Faults lists every fault.
var Faults = []Fault{Fine, Dead, Slow, Errors, Flaky}

// Timeout is how long callers should wait for an upstream here; a slow one takes longer.
const Timeout = time.Second

// Upstream stands in for one service. Safe for concurrent use.
type Upstream struct {
	// Service, Prefix and Address are what the proxy's configuration needs to know.
	Service, Prefix, Address string

	body     string
	fault    atomic.Value // Fault
	requests atomic.Int64
	mu       sync.Mutex   // guards what follows
	server   *http.Server // nil while it is dead
	ended    chan struct{}
}

// Upstreams returns the five services, which listen.
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
			return nil, fmt.Errorf("start a stand-in for %s: %w", u.Service, err)
		}
	}
	return all, nil
}

// Close ends upstreams.
func Close(all []*Upstream) {
	for _, u := range all {
		u.die()
	}
}

func (u *Upstream) listen() error {
	l, err := net.Listen("tcp", u.Address)
	if err != nil {
		return err
	}
	u.Address = l.Addr().String() // and keeps it when it comes back
	server, ended := &http.Server{Handler: u, ReadHeaderTimeout: Timeout}, make(chan struct{})
	u.server, u.ended = server, ended
	go func() {
		_ = server.Serve(l) // until it dies
		close(ended)
	}()
	return nil
}

func (u *Upstream) die() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.server != nil {
		_ = u.server.Close() // and cuts what is in flight
		<-u.ended
		u.server = nil
	}
}

// Set sets the switch.
func (u *Upstream) Set(f Fault) error {
	if !slices.Contains(Faults, f) {
		return fmt.Errorf("a switch is one of %v, got %q", Faults, f)
	}
	u.fault.Store(f)
	if f == Dead {
		u.die()
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.server != nil {
		return nil
	}
	if err := u.listen(); err != nil {
		return fmt.Errorf("bring %s back: %w", u.Service, err)
	}
	return nil
}

// Fault returns how the switch is set.
func (u *Upstream) Fault() Fault { return u.fault.Load().(Fault) }

// Requests returns how many have arrived.
func (u *Upstream) Requests() int64 { return u.requests.Load() }

// ServeHTTP answers as the switch says.
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
	if fault == Errors || fault == Flaky && rand.IntN(2) == 0 { // #nosec G404 -- a fault on show
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"error":"out of order"}`)
		return
	}
	_, _ = io.WriteString(w, u.body)
}

// Traffic asks every service through the proxy at base, some times a second, until ctx is done. What
// comes back is the dashboard's business.
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
				callers.Go(func() { _, _ = ask(ctx, client, base+u.Prefix, u, n) })
			}
		})
	}
	callers.Wait()
}

// ask sends one request, and returns what the caller got.
func ask(ctx context.Context, client *http.Client, url string, u *Upstream, n int) (got string, err error) {
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
		fallback = fmt.Sprintf(" (fallback: %s, because %s)", s, res.Header.Get("X-Fallback-Reason"))
	}
	return fmt.Sprintf("%s%s\n    %s", res.Status, fallback, strings.TrimSpace(string(content))), err
}
