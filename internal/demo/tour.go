package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Guide leads through a tour of a proxy that has the upstreams behind it and Traffic in front.
type Guide struct {
	Upstreams []*Upstream
	// Data and Admin are the proxy's addresses, as URLs.
	Data, Admin string
	// Out is where the guide talks to.
	Out io.Writer
	// Pause is how long a reader gets for a paragraph.
	Pause time.Duration
}

// status is what the guide wants to know of the proxy.
type status struct {
	Services map[string]struct {
		State       string `json:"circuit_breaker_state"`
		FailCounter int    `json:"fail_counter"`
	}
}

// Tour kills, waits and recovers, and tells what happens, each time when it has happened. Its error
// says what did not.
func (g *Guide) Tour(ctx context.Context) error {
	rag, notifier, vms := g.Upstreams[0], g.Upstreams[2], g.Upstreams[3]
	steps := []func(context.Context) error{
		g.say("Five services answer through the proxy, four calls a second each. What a caller of RAG gets:"),
		g.show(rag),
		g.set(rag, Dead, "Now RAG's process dies: nobody listens at %s any more."),
		g.await(rag, "open", "Five failures in a row, and its breaker is open. Callers did not wait for that, nor do they now:"),
		g.show(rag),
		g.say("The upstream is left alone: it is asked again when recovery_timeout is over, by a single probe. Look at the countdown."),
		g.set(notifier, Dead, "The notifier dies too (%s). A notification must not be lost:"),
		g.await(notifier, "open", "Its breaker is open. What is sent now waits on the disk, in order, and would survive kill -9:"),
		g.show(notifier),
		g.queue(notifier, "waiting", "", func(q queueStatus) bool { return q.Waiting > 0 }),
		g.set(vms, Slow, "VMS (%s) does not die, it crawls: each answer takes three seconds, and callers give it one."),
		g.await(vms, "open", "Slow is as good as dead. Its callers are answered at once again:"),
		g.show(vms),
		g.set(rag, Fine, "RAG is back at %s."),
		g.await(rag, "closed", "A probe found it, and its breaker closed:"),
		g.show(rag),
		g.set(notifier, Fine, "The notifier is back at %s."),
		g.queue(notifier, "delivered", "What waited has been delivered, in order.", func(q queueStatus) bool { return q.Waiting == 0 && q.Delivered > 0 }),
		g.set(vms, Fine, "And VMS (%s) is quick again."),
		g.await(vms, "closed", "All five are closed. That was the tour; break something yourself."),
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (g *Guide) printf(format string, args ...any) { _, _ = fmt.Fprintf(g.Out, format, args...) }

func (g *Guide) say(text string) func(context.Context) error {
	return func(ctx context.Context) error {
		g.printf("\n» %s\n", text)
		return g.pause(ctx)
	}
}

func (g *Guide) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(g.Pause):
		return nil
	}
}

func (g *Guide) show(u *Upstream) func(context.Context) error {
	return func(ctx context.Context) error {
		start := time.Now()
		got, err := ask(ctx, http.DefaultClient, g.Data+u.Prefix, u, 0)
		if err != nil {
			return fmt.Errorf("ask %s: %w", u.Service, err)
		}
		g.printf("  %s, after %d ms: %s\n", u.Prefix, time.Since(start).Milliseconds(), got)
		return g.pause(ctx)
	}
}

func (g *Guide) set(u *Upstream, f Fault, text string) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := u.Set(f); err != nil {
			return err
		}
		return g.say(fmt.Sprintf(text, u.Address))(ctx)
	}
}

// patience is for what should take some seconds.
const patience = time.Minute

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

type queueStatus struct {
	Waiting, Dead int
	Delivered     uint64
}

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

// poll reads what the admin plane says into v until done says so.
func (g *Guide) poll(ctx context.Context, path string, v any, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
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
		return fmt.Errorf("%s answers %s", path, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(v)
}
