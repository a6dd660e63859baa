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

// limitedUpstream is an upstream behind a breaker that admits a limited number of attempts. The body of a message defines the outcome of
// each attempt by one letter. The last letter applies to all further attempts.
type limitedUpstream struct {
	mu     sync.Mutex
	left   int // remaining attempts that the breaker admits
	sent   []string
	counts map[string]int
	closed chan struct{} // receives a value for a refusal unless it is full
}

func (g *limitedUpstream) answer(m *queue.Message, _ int) (queue.Answer, error) {
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
	switch outcomeOf(body, n) {
	case 'o':
		return queue.Answer{Status: 200}, nil
	case 'r':
		return queue.Answer{Status: 422}, nil
	case 's':
		return queue.Answer{Status: 503}, nil
	}
	return queue.Answer{}, &queue.Failed{Reason: events.ReasonConnect, NotCausedByMessage: true, Err: fmt.Errorf("fails")}
}

func outcomeOf(body string, n int) byte {
	_, outcomes, _ := strings.Cut(body, ":")
	return outcomes[min(n, len(outcomes)-1)]
}

// model is the expected state of a queue.
type model struct {
	waiting, dead []string
	delivered     []string
	dropped       int
	sent          []string
	counts        map[string]int // attempts since the message was queued or retried
	all           map[string]int // all attempts
}

// attempt models one admitted delivery of an ordered queue.
func (m *model) attempt(maxAttempts int) {
	if len(m.waiting) == 0 {
		return
	}
	body := m.waiting[0]
	m.sent = append(m.sent, body)
	fate := outcomeOf(body, m.all[body])
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

// TestModel compares a queue with a model under random operations, including restarts. No message fails often enough to be set aside.
func TestModel(outer *testing.T) {
	const maxAttempts = 4
	checks := flag.Lookup("rapid.checks").Value
	defer func(before string) { _ = checks.Set(before) }(checks.String())
	_ = checks.Set("25") // each check waits for many disk writes
	encrypted := keyring(outer, newKey(1))
	rapid.Check(outer, func(t *rapid.T) {
		folder, err := os.MkdirTemp("", "queue")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(folder)
		policy := quickPolicy()
		policy.MaxAttempts = maxAttempts
		policy.Backoff, policy.MaxBackoff = 10*time.Microsecond, 20*time.Microsecond
		g := &limitedUpstream{counts: map[string]int{}, closed: make(chan struct{}, 1)}
		u := newUpstream()
		u.setAnswer(g.answer)
		real := open(rapidTB{outer, t}, folder, u, policy)
		defer func() { real.stop() }()
		m := &model{counts: map[string]int{}, all: map[string]int{}}
		next := 0
		anyID := func(state string, want []string) (string, int) {
			items := real.list(rapidTB{outer, t}, state)
			if len(items) != len(want) {
				t.Fatalf("%d messages are %s, want %q", len(items), state, want)
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
				real.accept(rapidTB{outer, t}, body)
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
				real.waitForModel(t, g, waits && len(m.waiting) > 0, m)
				g.mu.Lock()
				g.left = 0
				g.mu.Unlock()
			},
			"drop": func(t *rapid.T) {
				id, i := anyID(queue.StateWaiting, m.waiting)
				_, err := real.Drop(id)
				for err == queue.ErrInFlight { // the breaker is refusing it
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
				for err == queue.ErrInFlight { // it is just becoming a dead letter
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
				policy.Keys = rapid.SampledFrom([]*queue.Keyring{nil, encrypted}).Draw(t, "keys")
				if policy.Keys == nil && slices.ContainsFunc(append(slices.Clone(m.waiting), m.dead...), func(string) bool { return true }) {
					policy.Keys = encrypted // a stored message may be encrypted
				}
				p := policy
				p.Ordered = false // and back: the breaker admits no attempt in between
				real.Configure("svc", p)
				real.Configure("svc", policy)
			},
			"restart": func(t *rapid.T) {
				real.stop()
				real = open(rapidTB{outer, t}, folder, u, policy)
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
		g.left = -1 // no limit
		g.mu.Unlock()
		for len(m.waiting) > 0 {
			m.attempt(maxAttempts)
		}
		real.recover()
		real.waitForModel(t, g, false, m)
		real.wantCounts(rapidTB{outer, t}, 0, len(m.dead))
		if next != len(m.delivered)+len(m.dead)+m.dropped {
			t.Fatalf("the model has lost something: %+v", m)
		}
	})
}

// waitForModel waits until the queue has the state of the model.
func (b *testQueue) waitForModel(t *rapid.T, g *limitedUpstream, refused bool, m *model) {
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
		<-g.closed // otherwise the next operation could receive this refusal
	}
}

// rapidTB is a testing.TB that reports to a rapid.T.
type rapidTB struct {
	testing.TB
	t *rapid.T
}

func (w rapidTB) Helper()                           {}
func (w rapidTB) Cleanup(f func())                  { w.t.Cleanup(f) }
func (w rapidTB) Context() context.Context          { return w.t.Context() }
func (w rapidTB) Fatal(args ...any)                 { w.t.Fatal(args...) }
func (w rapidTB) Fatalf(format string, args ...any) { w.t.Fatalf(format, args...) }
func (w rapidTB) Errorf(format string, args ...any) { w.t.Fatalf(format, args...) }
