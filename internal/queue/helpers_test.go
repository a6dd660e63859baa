package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
	"cbproxy/internal/queue/disk"
)

// sent is a message as an upstream receives it.
type sent struct {
	body    string
	attempt int
	key     string
	at      time.Time
}

// upstream is a Sender whose answers the test sets.
type upstream struct {
	mu       sync.Mutex
	began    time.Time // start of the last successful client request; guarded by mu
	answer   func(m *queue.Message, attempt int) (queue.Answer, error)
	log      []sent
	arrivals chan sent
}

func newUpstream() *upstream {
	return &upstream{arrivals: make(chan sent, 100_000)}
}

// setAnswer sets the function that answers; nil answers 200.
func (u *upstream) setAnswer(answer func(m *queue.Message, attempt int) (queue.Answer, error)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

func (u *upstream) Send(_ context.Context, _ string, m *queue.Message) (queue.Answer, error) {
	attempt, _ := strconv.Atoi(m.Header.Get("X-Delivery-Attempt"))
	u.mu.Lock()
	answer := u.answer
	u.mu.Unlock()
	a, err := queue.Answer{Status: 200}, error(nil)
	if answer != nil {
		a, err = answer(m, attempt)
	}
	if _, refused := err.(*queue.NotAdmitted); refused {
		return a, err
	}
	s := sent{string(m.Body), attempt, m.Header.Get("Idempotency-Key"), time.Now()}
	u.mu.Lock()
	u.log = append(u.log, s)
	u.mu.Unlock()
	u.arrivals <- s
	return a, err
}

// recordSuccess records a successful client request that begins now.
func (u *upstream) recordSuccess() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.began = time.Now()
}

// LastSuccess implements queue.Sender.
func (u *upstream) LastSuccess(string) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.began
}

// waitLimit bounds the wait for a message. It is long enough for tests with a fake clock.
var waitLimit = 100 * time.Hour

// next waits for the next message that is sent.
func (u *upstream) next(t testing.TB) sent {
	t.Helper()
	select {
	case s := <-u.arrivals:
		return s
	case <-time.After(waitLimit):
		t.Fatal("nothing was sent")
		return sent{}
	}
}

func (u *upstream) bodies() (all []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.log {
		all = append(all, s.body)
	}
	return all
}

func (u *upstream) count(body string) (n int) {
	for _, b := range u.bodies() {
		if b == body {
			n++
		}
	}
	return n
}

func answerWith(status int) func(*queue.Message, int) (queue.Answer, error) {
	return func(*queue.Message, int) (queue.Answer, error) { return queue.Answer{Status: status}, nil }
}

func failToConnect(*queue.Message, int) (queue.Answer, error) {
	return queue.Answer{}, &queue.Failed{Reason: events.ReasonConnect, NotCausedByMessage: true, Err: fmt.Errorf("no connection")}
}

// quickPolicy returns a policy with backoffs of about a millisecond.
func quickPolicy() queue.Policy {
	return queue.Policy{
		Capacity: 10_000, MaxAge: time.Hour, MaxAttempts: 1000, Backoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond, Ordered: true,
	}
}

// slowPolicy returns a policy with backoffs of an hour, longer than any test.
func slowPolicy() queue.Policy {
	p := quickPolicy()
	p.Backoff, p.MaxBackoff = time.Hour, time.Hour
	return p
}

// testQueue is a Queues with its store, bus and sender.
type testQueue struct {
	*queue.Queues
	store  *disk.Store
	bus    *events.Bus
	sender queue.Sender
	stop   func() // stops the workers and closes the store; idempotent
}

// open starts the queues stored in a folder; "" stores them in memory.
func open(t testing.TB, folder string, u queue.Sender, p queue.Policy) *testQueue {
	t.Helper()
	b := openStopped(t, folder, u)
	b.Configure("svc", p)
	b.run(t)
	return b
}

// openStopped opens the queues of a folder without delivering.
func openStopped(t testing.TB, folder string, u queue.Sender) *testQueue {
	t.Helper()
	kept, aside, err := disk.Open(folder)
	if err != nil || len(aside) > 0 {
		t.Fatal(err, aside)
	}
	b := &testQueue{store: kept, bus: new(events.Bus), sender: u}
	b.Queues = queue.New(queue.Config{Store: kept, Bus: b.bus, Logger: slog.New(slog.DiscardHandler)})
	b.stop = sync.OnceFunc(func() { _ = kept.Close() })
	return b
}

func (b *testQueue) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx, b.sender) }()
	b.stop = sync.OnceFunc(func() { cancel(); <-done; _ = b.store.Close() })
	t.Cleanup(b.stop)
}

func message(body string) *queue.Message {
	return &queue.Message{Method: "POST", Host: "h", Path: "/svc/" + body, Rest: "/" + body, Header: http.Header{}, Body: []byte(body), Accepted: time.Now()}
}

func (b *testQueue) accept(t testing.TB, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if err := b.Accept(t.Context(), "svc", message(body)); err != nil {
			t.Fatal(err)
		}
	}
}

// waitFor waits until wanted returns true for the status, and returns the status.
func (b *testQueue) waitFor(t testing.TB, what string, wanted func(events.QueueStatus) bool) events.QueueStatus {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s := b.Status("svc")
		if wanted(s) {
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %+v", what, s)
		}
	}
}

func empty(s events.QueueStatus) bool { return s.Waiting == 0 }

// wantCounts waits until the queue and its store have the given numbers of waiting and dead messages, and checks that the lists agree.
func (b *testQueue) wantCounts(t testing.TB, waiting, dead int) {
	t.Helper()
	b.waitFor(t, fmt.Sprintf("%d waiting, %d dead", waiting, dead), func(s events.QueueStatus) bool {
		inStore, inStoreDead := b.store.Counts("svc")
		return s.Waiting == waiting && s.Dead == dead && inStore == waiting && inStoreDead == dead
	})
	if len(b.list(t, queue.StateWaiting)) != waiting || len(b.list(t, queue.StateDead)) != dead {
		t.Errorf("listed: %v and %v, want %d and %d", b.list(t, queue.StateWaiting), b.list(t, queue.StateDead), waiting, dead)
	}
}

func (b *testQueue) list(t testing.TB, state string) []events.QueuedRequest {
	t.Helper()
	items, err := b.List("svc", state, "", 100_000)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

func (b *testQueue) recover() { b.bus.Publish(events.StateChanged{Service: "svc", To: events.Closed}) }

func sequence(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

func equal(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
