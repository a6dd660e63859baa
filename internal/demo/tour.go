package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Guide runs the tour of the demo: it breaks upstreams and describes what the proxy does.
type Guide struct {
	Upstreams []*Upstream
	// Data and Admin are the base URLs of the proxy's data plane and admin API.
	Data, Admin string
	// Out gets the descriptions.
	Out io.Writer
	// Pause is the time to read a paragraph.
	Pause time.Duration
}

// status is the part of the health API's response that the guide uses.
type status struct {
	Services map[string]struct {
		State       string `json:"circuit_breaker_state"`
		FailCounter int    `json:"fail_counter"`
	}
}

// Tour runs the tour. It describes each effect after it has occurred, and returns an error if one does not occur.
func (g *Guide) Tour(ctx context.Context) error {
	rag, notifier, vms := g.Upstreams[0], g.Upstreams[2], g.Upstreams[3]
	steps := []func(context.Context) error{
		g.say("Five services are called through the proxy, four times per second each. A client of RAG gets:"),
		g.show(rag),
		g.set(rag, Dead, "The RAG process dies: nothing listens at %s."),
		g.await(rag, "open", "After five consecutive failures its breaker is open. Clients get a fallback at once:"),
		g.show(rag),
		g.say("The upstream gets no requests until recovery_timeout is over. Then a single request probes it. The dashboard shows the countdown."),
		g.set(notifier, Dead, "The notifier dies too (%s). Notifications must not be lost:"),
		g.await(notifier, "open", "Its breaker is open. Requests are now queued on disk in order, and survive kill -9:"),
		g.show(notifier),
		g.queue(notifier, "waiting", "", func(q queueStatus) bool { return q.Waiting > 0 }),
		g.set(vms, Slow, "VMS (%s) becomes slow: each response takes three seconds, and the timeout is one second."),
		g.await(vms, "open", "Slow responses open the breaker, too. Clients get a fallback at once again:"),
		g.show(vms),
		g.set(rag, Fine, "RAG is back at %s."),
		g.await(rag, "closed", "A probe succeeded, and its breaker closed:"),
		g.show(rag),
		g.set(notifier, Fine, "The notifier is back at %s."),
		g.queue(notifier, "delivered", "The queued requests have been delivered, in order.", func(q queueStatus) bool { return q.Waiting == 0 && q.Delivered > 0 }),
		g.set(vms, Fine, "VMS (%s) is fast again."),
		g.await(vms, "closed", "All five breakers are closed. This is the end of the tour; break something yourself."),
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (g *Guide) printf(format string, args ...any) { _, _ = fmt.Fprintf(g.Out, format, args...) }

// say prints a paragraph and pauses.
func (g *Guide) say(text string) func(context.Context) error {
	return func(ctx context.Context) error {
		g.printf("\n» %s\n", text)
		return g.pause(ctx)
	}
}

// pause waits for g.Pause.
func (g *Guide) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(g.Pause):
		return nil
	}
}

// show sends a request for u through the proxy and prints the response.
func (g *Guide) show(u *Upstream) func(context.Context) error {
	return func(ctx context.Context) error {
		start := time.Now()
		got, err := call(ctx, http.DefaultClient, g.Data+u.Prefix, u, 0)
		if err != nil {
			return fmt.Errorf("call %s: %w", u.Service, err)
		}
		g.printf("  %s, after %d ms: %s\n", u.Prefix, time.Since(start).Milliseconds(), got)
		return g.pause(ctx)
	}
}

// set sets the fault of u and prints text, in which %s is the address of u.
func (g *Guide) set(u *Upstream, f Fault, text string) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := u.Set(f); err != nil {
			return err
		}
		return g.say(fmt.Sprintf(text, u.Address))(ctx)
	}
}

// stepTimeout limits the wait for an effect that should take some seconds.
const stepTimeout = time.Minute

// await waits until the breaker of u is in the given state, and prints text.
func (g *Guide) await(u *Upstream, state, text string) func(context.Context) error {
	return func(ctx context.Context) error {
		var s status
		err := g.poll(ctx, "circuit-breakers/health", &s, func() bool { return s.Services[u.Service].State == state })
		if err != nil {
			return fmt.Errorf("wait until the breaker of %s is %s: %w", u.Service, state, err)
		}
		return g.say(text)(ctx)
	}
}

// queueStatus is the part of a queue's status that the guide uses.
type queueStatus struct {
	Waiting, Dead int
	Delivered     uint64
}

// queue waits until done returns true for the queue of u, and prints its status and text. what is the expected state in an
// error.
func (g *Guide) queue(u *Upstream, what, text string, done func(queueStatus) bool) func(context.Context) error {
	return func(ctx context.Context) error {
		var s struct{ Queues map[string]queueStatus }
		if err := g.poll(ctx, "queue?limit=1", &s, func() bool { return done(s.Queues[u.Service]) }); err != nil {
			return fmt.Errorf("wait until requests for %s are %s: %w", u.Service, what, err)
		}
		q := s.Queues[u.Service]
		g.printf("  queue: %d waiting, %d delivered\n", q.Waiting, q.Delivered)
		if text == "" {
			return nil
		}
		return g.say(text)(ctx)
	}
}

// poll reads path of the admin API into v until done returns true.
func (g *Guide) poll(ctx context.Context, path string, v any, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := g.read(ctx, path, v)
		if err == nil && done() {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = ctx.Err()
			}
			return err
		case <-ticker.C:
		}
	}
}

// read decodes the response for a path of the admin API into v.
func (g *Guide) read(ctx context.Context, path string, v any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.Admin+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s", path, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(v)
}
