package queue_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
)

// gate is an upstream behind a breaker: it is asked only as often as it is told, and each
// message says in its body how it is to be answered: a letter an attempt, the last one for all
// further ones.
type gate struct {
	mu     sync.Mutex
	left   int // how often it may be asked
	sent   []string
	counts map[string]int
	closed chan struct{} // told of each refusal, if anybody wants to know
}

func (g *gate) answer(m *queue.Message, _ int) (queue.Answer, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left == 0 {
		select {
		case g.closed <- struct{}{}:
		default:
		}
		return queue.Answer{}, &queue.NotAdmitted{RetryAt: time.Now().Add(time.Hour), Reason: "closed"}
	}
	g.left--
	body := string(m.Body)
	g.sent = append(g.sent, body)
	n := g.counts[body]
	g.counts[body]++
	switch fateOf(body, n) {
	case 'o':
		return queue.Answer{Status: 200}, nil
	case 'r':
		return queue.Answer{Status: 422}, nil
	case 's':
		return queue.Answer{Status: 503}, nil
	}
	return queue.Answer{}, &queue.Failed{Reason: events.ReasonConnect, Unsent: true, Err: fmt.Errorf("fails")}
}

func fateOf(body string, n int) byte {
	_, fates, _ := strings.Cut(body, ":")
	return fates[min(n, len(fates)-1)]
}

// model is what a queue should be.
type model struct {
	waiting, dead []string
	delivered     []string
	dropped       int
	sent          []string
	counts        map[string]int // attempts since a message began to wait
	all           map[string]int // attempts ever
}

// attempt does what one admitted delivery does to an ordered queue.
func (m *model) attempt(maxAttempts int) {
	if len(m.waiting) == 0 {
		return
	}
	body := m.waiting[0]
	m.sent = append(m.sent, body)
	fate := fateOf(body, m.all[body])
	m.all[body]++
	m.counts[body]++
	switch {
	case fate == 'o':
		m.delivered, m.waiting = append(m.delivered, body), m.waiting[1:]
	case fate == 'r', m.counts[body] >= maxAttempts:
		m.dead, m.waiting = append(m.dead, body), m.waiting[1:]
	default:
		return
	}
	delete(m.counts, body)
}

// TestModel compares a queue with a simple one, whatever is done to it, restarts included. No message fails
// so often that others may pass it.
func TestModel(outer *testing.T) {
	const maxAttempts = 4
	checks := flag.Lookup("rapid.checks").Value
	defer func(before string) { _ = checks.Set(before) }(checks.String())
	_ = checks.Set("25") // each waits for the disk many times
	sealed := keyring(outer, newKey(1))
	rapid.Check(outer, func(t *rapid.T) {
		folder, err := os.MkdirTemp("", "queue")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(folder)
		policy := quick()
		policy.MaxAttempts = maxAttempts
		policy.Backoff, policy.MaxBackoff = 10*time.Microsecond, 20*time.Microsecond
		g := &gate{counts: map[string]int{}, closed: make(chan struct{}, 1)}
		u := newUpstream()
		u.behave(g.answer)
		real := open(within{outer, t}, folder, u, policy)
		defer func() { real.stop() }()
		m := &model{counts: map[string]int{}, all: map[string]int{}}
		next := 0
		anyID := func(state string, want []string) (string, int) {
			items := real.list(within{outer, t}, state)
			if len(items) != len(want) {
				t.Fatalf("%d are %s, want %q", len(items), state, want)
			}
			for i := range items {
				if items[i].Path != "/svc/"+want[i] {
					t.Fatalf("%s: %s at %d, want %q", state, items[i].Path, i, want)
				}
			}
			if len(items) == 0 {
				t.Skip("none")
			}
			i := rapid.IntRange(0, len(items)-1).Draw(t, "which")
			return items[i].ID, i
		}
		t.Repeat(map[string]func(*rapid.T){
			"accept": func(t *rapid.T) {
				body := fmt.Sprintf("%d:%s", next, rapid.StringMatching("f{0,2}s?[or]|s?f").Draw(t, "fate"))
				next++
				real.accept(within{outer, t}, body)
				m.waiting = append(m.waiting, body)
			},
			"deliver": func(t *rapid.T) {
				n := rapid.IntRange(1, 6).Draw(t, "times")
				g.mu.Lock()
				g.left = n
				select {
				case <-g.closed:
				default:
				}
				g.mu.Unlock()
				waits := len(m.waiting) > 0
				for range n {
					m.attempt(maxAttempts)
				}
				real.recover()
				real.settled(t, g, waits && len(m.waiting) > 0, m)
				g.mu.Lock()
				g.left = 0
				g.mu.Unlock()
			},
			"drop": func(t *rapid.T) {
				id, i := anyID(queue.StateWaiting, m.waiting)
				_, err := real.Drop(id)
				for err == queue.ErrInFlight { // it is being refused
					_, err = real.Drop(id)
				}
				if err != nil {
					t.Fatal(err)
				}
				delete(m.counts, m.waiting[i])
				m.waiting = slices.Delete(m.waiting, i, i+1)
				m.dropped++
			},
			"drop a dead one": func(t *rapid.T) {
				id, i := anyID(queue.StateDead, m.dead)
				_, err := real.Drop(id)
				for err == queue.ErrInFlight { // it has died this moment
					_, err = real.Drop(id)
				}
				if err != nil {
					t.Fatal(err)
				}
				m.dead = slices.Delete(m.dead, i, i+1)
				m.dropped++
			},
			"retry a dead one": func(t *rapid.T) {
				id, i := anyID(queue.StateDead, m.dead)
				if _, err := real.Retry(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				m.waiting = append(m.waiting, m.dead[i])
				m.dead = slices.Delete(m.dead, i, i+1)
			},
			"retry": func(t *rapid.T) {
				id, _ := anyID(queue.StateWaiting, m.waiting)
				if _, err := real.Retry(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			},
			"reconfigure": func(t *rapid.T) {
				policy.Keys = rapid.SampledFrom([]*queue.Keyring{nil, sealed}).Draw(t, "keys")
				if policy.Keys == nil && slices.ContainsFunc(append(slices.Clone(m.waiting), m.dead...), func(string) bool { return true }) {
					policy.Keys = sealed // something may be sealed
				}
				p := policy
				p.Ordered = false // and back: nothing can be sent meanwhile
				real.Configure("svc", p)
				real.Configure("svc", policy)
			},
			"restart": func(t *rapid.T) {
				real.stop()
				real = open(within{outer, t}, folder, u, policy)
			},
			"": func(t *rapid.T) {
				s := real.Status("svc")
				inStore, dead := real.store.Counts("svc")
				if s.Waiting != len(m.waiting) || inStore < s.Waiting || s.Dead != len(m.dead) || dead != len(m.dead) {
					t.Fatalf("%+v, in the store %d and %d; want %q and %q", s, inStore, dead, m.waiting, m.dead)
				}
			},
		})
		g.mu.Lock()
		g.left = -1 // for ever
		g.mu.Unlock()
		for len(m.waiting) > 0 {
			m.attempt(maxAttempts)
		}
		real.recover()
		real.settled(t, g, false, m)
		real.atRest(within{outer, t}, 0, len(m.dead))
		if next != len(m.delivered)+len(m.dead)+m.dropped {
			t.Fatalf("the model has lost something: %+v", m)
		}
	})
}

// settled waits until the queue has done what the model has.
func (b *bench) settled(t *rapid.T, g *gate, refused bool, m *model) {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Microsecond) {
		g.mu.Lock()
		sent := slices.Clone(g.sent)
		g.mu.Unlock()
		s := b.Status("svc")
		if slices.Equal(sent, m.sent) && s.Waiting == len(m.waiting) && s.Dead == len(m.dead) {
			break
		}
		if time.Now().After(end) || len(sent) > len(m.sent) {
			t.Fatalf("sent %q, %+v\nwant %q, waiting %q, dead %q", sent, s, m.sent, m.waiting, m.dead)
		}
	}
	if refused {
		<-g.closed // or a refusal on its way would be heard by what comes next
	}
}

// within is a testing.TB that reports to a rapid.T.
type within struct {
	testing.TB
	t *rapid.T
}

func (w within) Helper()                           {}
func (w within) Cleanup(f func())                  { w.t.Cleanup(f) }
func (w within) Context() context.Context          { return w.t.Context() }
func (w within) Fatal(args ...any)                 { w.t.Fatal(args...) }
func (w within) Fatalf(format string, args ...any) { w.t.Fatalf(format, args...) }
func (w within) Errorf(format string, args ...any) { w.t.Fatalf(format, args...) }
