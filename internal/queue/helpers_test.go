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

// sent is one message as an upstream gets it.
type sent struct {
	body    string
	attempt int
	key     string
	at      time.Time
}

// upstream is a Sender that answers as it is told to.
type upstream struct {
	mu     sync.Mutex
	began  time.Time // of a client's request that succeeded
	answer func(m *queue.Message, attempt int) (queue.Answer, error)
	log    []sent
	came   chan sent
}

func newUpstream() *upstream {
	return &upstream{came: make(chan sent, 100_000)}
}

// behave replaces how it answers; nil is 200.
func (u *upstream) behave(answer func(m *queue.Message, attempt int) (queue.Answer, error)) {
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
	u.came <- s
	return a, err
}

// succeed is for a client's request that begins now.
func (u *upstream) succeed() {
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

// patience is long enough for a bubble's clock, too.
var patience = 100 * time.Hour

// next waits for the next message that is sent.
func (u *upstream) next(t testing.TB) sent {
	t.Helper()
	select {
	case s := <-u.came:
		return s
	case <-time.After(patience):
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

func answers(status int) func(*queue.Message, int) (queue.Answer, error) {
	return func(*queue.Message, int) (queue.Answer, error) { return queue.Answer{Status: status}, nil }
}

func isDown(*queue.Message, int) (queue.Answer, error) {
	return queue.Answer{}, &queue.Failed{Reason: events.ReasonConnect, Unsent: true, Err: fmt.Errorf("no connection")}
}

// quick is a policy that waits for next to nothing.
func quick() queue.Policy {
	return queue.Policy{
		Capacity: 10_000, MaxAge: time.Hour, MaxAttempts: 1000, Backoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond, Ordered: true,
	}
}

// slow is a policy whose waits outlive any test that does not end them.
func slow() queue.Policy {
	p := quick()
	p.Backoff, p.MaxBackoff = time.Hour, time.Hour
	return p
}

// bench is a running Queues with what is around it.
type bench struct {
	*queue.Queues
	store  *disk.Queue
	bus    *events.Bus
	sender queue.Sender
	stop   func() // ends it, and closes the store; may be called twice
}

// open runs the queues of a folder, "" is memory.
func open(t testing.TB, folder string, u queue.Sender, p queue.Policy) *bench {
	t.Helper()
	b := opened(t, folder, u)
	b.Configure("svc", p)
	b.run(t)
	return b
}

// opened is open before anything is delivered.
func opened(t testing.TB, folder string, u queue.Sender) *bench {
	t.Helper()
	kept, aside, err := disk.Open(folder)
	if err != nil || len(aside) > 0 {
		t.Fatal(err, aside)
	}
	b := &bench{store: kept, bus: new(events.Bus), sender: u}
	b.Queues = queue.New(queue.Config{Store: kept, Bus: b.bus, Logger: slog.New(slog.DiscardHandler)})
	b.stop = sync.OnceFunc(func() { _ = kept.Close() })
	return b
}

func (b *bench) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx, b.sender) }()
	b.stop = sync.OnceFunc(func() { cancel(); <-done; _ = b.store.Close() })
	t.Cleanup(b.stop)
}

func message(body string) *queue.Message {
	return &queue.Message{Method: "POST", Host: "h", Path: "/svc/" + body, Rest: "/" + body, Header: http.Header{}, Body: []byte(body), Accepted: time.Now()}
}

func (b *bench) accept(t testing.TB, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if err := b.Accept(t.Context(), "svc", message(body)); err != nil {
			t.Fatal(err)
		}
	}
}

// until waits for the queue to be as wanted.
func (b *bench) until(t testing.TB, what string, wanted func(events.QueueStatus) bool) events.QueueStatus {
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

// atRest waits until the store has as many messages as the queue says, and checks that they
// are what is said of them.
func (b *bench) atRest(t testing.TB, waiting, dead int) {
	t.Helper()
	b.until(t, fmt.Sprintf("%d waiting, %d dead", waiting, dead), func(s events.QueueStatus) bool {
		inStore, buried := b.store.Counts("svc")
		return s.Waiting == waiting && s.Dead == dead && inStore == waiting && buried == dead
	})
	if len(b.list(t, queue.StateWaiting)) != waiting || len(b.list(t, queue.StateDead)) != dead {
		t.Errorf("listed: %v and %v, want %d and %d", b.list(t, queue.StateWaiting), b.list(t, queue.StateDead), waiting, dead)
	}
}

func (b *bench) list(t testing.TB, state string) []events.QueuedRequest {
	t.Helper()
	items, err := b.List("svc", state, "", 100_000)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

func (b *bench) recover() { b.bus.Publish(events.StateChanged{Service: "svc", To: events.Closed}) }

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
