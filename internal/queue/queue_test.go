package queue_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
)

func TestStatusDecidesOutcome(t *testing.T) {
	type fate struct {
		cause    string // "" is delivered
		attempts int
		problem  string
	}
	delivered := fate{}
	refused := func(status int) fate { return fate{"refused", 0, fmt.Sprint("status ", status)} }
	again := func(status int) fate { return fate{"attempts", 3, fmt.Sprint("status ", status)} }
	want := map[int]fate{
		200: delivered, 201: delivered, 202: delivered, 204: delivered, 299: delivered,
		408: again(408), 425: again(425), 429: again(429), 500: again(500), 502: again(502), 503: again(503), 504: again(504), 599: again(599), 999: again(999),
	}
	for _, status := range []int{300, 301, 302, 304, 307, 400, 401, 403, 404, 405, 409, 410, 413, 421, 422, 426, 428, 431, 451, 499} {
		want[status] = refused(status)
	}
	u := newUpstream()
	u.setAnswer(func(m *queue.Message, _ int) (queue.Answer, error) {
		status, err := strconv.Atoi(string(m.Body))
		switch {
		case err == nil:
			return queue.Answer{Status: status}, nil
		case string(m.Body) == "fails":
			return queue.Answer{}, &queue.Failed{Reason: events.ReasonTimeout, Err: errors.New("no answer")}
		case string(m.Body) == "panics":
			panic("broken")
		}
		return queue.Answer{}, errors.New("unexpected failure")
	})
	p := quickPolicy()
	p.MaxAttempts = 3
	for _, ordered := range []bool{true, false} {
		p.Ordered = ordered
		b := open(t, "", u, p)
		for status := range want {
			b.accept(t, strconv.Itoa(status))
		}
		b.accept(t, "fails", "panics", "odd")
		s := b.waitFor(t, "all are delivered or dead", empty)
		dead := map[string]events.QueuedRequest{}
		for _, i := range b.list(t, queue.StateDead) {
			dead[i.Path[len("/svc/"):]] = i
		}
		for status, f := range want {
			i, isDead := dead[strconv.Itoa(status)]
			if isDead == (f.cause == "") || i.Cause != f.cause || i.Attempts != f.attempts || i.LastError != f.problem || isDead && i.Died.IsZero() {
				t.Errorf("%d: %+v, want %+v", status, i, f)
			}
		}
		for body, problem := range map[string]string{"fails": "no answer", "panics": "panic: broken", "odd": "unexpected failure"} {
			if i := dead[body]; i.Cause != "attempts" || i.LastError != problem || i.Attempts != 3 {
				t.Errorf("%s: %+v", body, i)
			}
		}
		if all := uint64(len(want) + 3); s.Accepted != all || s.Delivered != 5 || s.Died != all-5 || s.Retried != 2*(9+3) || s.Lost != 0 {
			t.Errorf("%+v", s)
		}
		b.wantCounts(t, 0, len(want)+3-5)
		b.stop()
	}
}

// A message that the upstream rejects does not block the following ones. A failed message does.
func TestOrderedDelivery(t *testing.T) {
	u := newUpstream()
	u.setAnswer(func(m *queue.Message, attempt int) (queue.Answer, error) {
		switch n, _ := strconv.Atoi(string(m.Body)); {
		case n%10 == 3:
			return queue.Answer{Status: 400}, nil
		case n%10 == 7 && attempt == 1:
			return queue.Answer{Status: 503}, nil
		case n%10 == 7 && attempt < 4:
			return failToConnect(m, attempt)
		}
		return queue.Answer{Status: 200}, nil
	})
	b := open(t, t.TempDir(), u, quickPolicy())
	b.accept(t, sequence(0, 200)...)
	b.waitFor(t, "all are delivered or dead", empty)
	b.wantCounts(t, 0, 20)
	if got := slices.Compact(u.bodies()); !slices.Equal(got, sequence(0, 200)) {
		t.Errorf("sent %q", got)
	}
	for n, want := range map[string]int{"7": 4, "3": 1, "4": 1} {
		if got := u.count(n); got != want {
			t.Errorf("%s was sent %d times, want %d", n, got, want)
		}
	}
}

func TestUnorderedQueueSendsPastFailedMessage(t *testing.T) {
	u := newUpstream()
	u.setAnswer(func(m *queue.Message, _ int) (queue.Answer, error) {
		if string(m.Body) == "fails" {
			return queue.Answer{Status: 500}, nil
		}
		return queue.Answer{Status: 200}, nil
	})
	p := slowPolicy()
	p.Ordered = false
	b := open(t, "", u, p)
	b.accept(t, "fails")
	u.next(t)
	b.accept(t, sequence(0, 20)...) // each new message ends the pause after the failure
	b.waitFor(t, "the other messages are delivered", func(s events.QueueStatus) bool { return s.Delivered == 20 })
	b.wantCounts(t, 1, 0)
	u.setAnswer(nil)
	if _, err := b.Retry(t.Context(), b.list(t, queue.StateWaiting)[0].ID); err != nil {
		t.Fatal(err)
	}
	b.waitFor(t, "the failed message is delivered", empty)
	b.wantCounts(t, 0, 0)
}

// A queue that becomes ordered starts with the oldest message.
func TestSwitchToOrderedDelivery(t *testing.T) {
	u := newUpstream()
	u.setAnswer(answerWith(500))
	p := quickPolicy()
	p.Ordered, p.MaxBackoff = false, 20*time.Millisecond
	b := open(t, "", u, p)
	want := sequence(0, 30)
	b.accept(t, want...)
	for range 60 {
		u.next(t)
	}
	u.setAnswer(func(*queue.Message, int) (queue.Answer, error) { return queue.Answer{}, &queue.NotAdmitted{} })
	b.Configure("svc", quickPolicy())
	for len(u.arrivals) > 0 {
		u.next(t)
	}
	time.Sleep(10 * time.Millisecond) // for an attempt in flight
	sentBefore := len(u.bodies())
	u.setAnswer(nil)
	b.recover()
	b.waitFor(t, "all are delivered", empty)
	equal(t, u.bodies()[sentBefore:], want)
	b.wantCounts(t, 0, 0)
}

// Reading from the beginning again skips messages that are delivered and not yet removed.
func TestChangeOfOrderDeliversEachMessageOnce(t *testing.T) {
	u := newUpstream()
	ordered, unordered := quickPolicy(), quickPolicy()
	unordered.Ordered = false
	b := open(t, t.TempDir(), u, ordered)
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() { b.accept(t, sequence(0, 50)...) })
	}
	for i := range 200 {
		u.next(t)
		b.Configure("svc", []queue.Policy{unordered, ordered}[i%2])
	}
	clients.Wait()
	b.waitFor(t, "all are delivered", empty)
	b.wantCounts(t, 0, 0)
	if s := b.Status("svc"); s.Delivered != 200 || len(u.bodies()) != 200 {
		t.Errorf("%d messages were sent, %+v", len(u.bodies()), s)
	}
}

func TestMessagesAreDeliveredUnchanged(t *testing.T) {
	keys := keyring(t, newKey(1))
	for name, p := range map[string]queue.Policy{"plain": quickPolicy(), "encrypted": func() queue.Policy { p := quickPolicy(); p.Keys = keys; return p }()} {
		t.Run(name, func(t *testing.T) {
			got := make(chan *queue.Message, 10)
			u := newUpstream()
			u.setAnswer(func(m *queue.Message, _ int) (queue.Answer, error) { got <- m; return queue.Answer{Status: 200}, nil })
			b := open(t, t.TempDir(), u, p)
			for _, body := range [][]byte{nil, {0}, []byte("\xff\xfe binary \x00"), make([]byte, 3<<20)} {
				every := make([]byte, 0, 256)
				for c := range 256 {
					every = append(every, byte(c))
				}
				in := &queue.Message{
					Method: "PATCH", Host: "a.example:8080", Path: "/svc/a%2Fb//\xff\xe9<&>", Rest: "/a%2Fb//\xff\xe9<&>", Query: "a=%&b;\xe9=" + string(every),
					Header: http.Header{"X-Latin": {"caf\xe9", "", string(every)}, "X-Utf8": {"café \u2028 \U0001F600"}, "X-Delivery-Attempt": {"99"}, "X-None": {}},
					Body:   body, Accepted: time.Now(),
				}
				want := in.Header.Clone()
				if err := b.Accept(t.Context(), "svc", in); err != nil {
					t.Fatal(err)
				}
				out := <-got
				want["X-Delivery-Attempt"] = []string{"1"}
				want["Idempotency-Key"] = in.Header["Idempotency-Key"]
				if out.Method != in.Method || out.Host != in.Host || out.Path != in.Path || out.Rest != in.Rest || out.Query != in.Query ||
					string(out.Body) != string(body) || fmt.Sprintf("%q", out.Header) != fmt.Sprintf("%q", want) {
					t.Errorf("got %.300q\nwant %.300q", fmt.Sprintf("%+v", out), fmt.Sprintf("%+v", in))
				}
				if d := in.Accepted.Sub(out.Accepted); d < 0 || d >= time.Millisecond {
					t.Errorf("acceptance time %v, delivered as %v", in.Accepted, out.Accepted)
				}
			}
		})
	}
}

func TestIdempotencyKeyIsKeptOrGenerated(t *testing.T) {
	u := newUpstream()
	u.setAnswer(func(_ *queue.Message, attempt int) (queue.Answer, error) {
		if attempt < 3 {
			return queue.Answer{Status: 503}, nil
		}
		return queue.Answer{Status: 200}, nil
	})
	b := open(t, "", u, quickPolicy())
	m := message("own")
	m.Header.Set("Idempotency-Key", "mine")
	if err := b.Accept(t.Context(), "svc", m); err != nil {
		t.Fatal(err)
	}
	b.accept(t, "a", "b")
	keys := map[string]map[string]bool{"own": {}, "a": {}, "b": {}}
	for range 9 {
		s := u.next(t)
		keys[s.body][s.key] = true
	}
	if !keys["own"]["mine"] || len(keys["own"])+len(keys["a"])+len(keys["b"]) != 3 {
		t.Errorf("keys %v: want the same key for every attempt of a message", keys)
	}
	for key := range keys["a"] {
		if len(key) < 16 || keys["b"][key] {
			t.Errorf("generated key %q", key)
		}
	}
}

func TestFullQueueRejectsMessages(t *testing.T) {
	u := newUpstream()
	u.setAnswer(failToConnect)
	p := slowPolicy()
	p.Capacity = 10
	b := open(t, "", u, p)
	var all sync.WaitGroup
	results := make(chan error, 100)
	for range cap(results) {
		all.Go(func() { results <- b.Accept(t.Context(), "svc", message("x")) })
	}
	all.Wait()
	close(results)
	accepted := 0
	for err := range results {
		switch {
		case err == nil:
			accepted++
		case !errors.Is(err, queue.ErrFull):
			t.Error(err)
		}
	}
	if accepted != p.Capacity {
		t.Errorf("%d messages were accepted", accepted)
	}
	b.wantCounts(t, p.Capacity, 0)
	p.Capacity = 5
	b.Configure("svc", p)
	u.setAnswer(nil)
	b.recover()
	b.waitFor(t, "the messages beyond the reduced capacity are delivered", func(s events.QueueStatus) bool { return s.Delivered == 10 })
	if err := b.Accept(t.Context(), "svc", message("x")); err != nil {
		t.Errorf("the queue has capacity again: %v", err)
	}
	b.waitFor(t, "the last message is delivered", empty)
	b.wantCounts(t, 0, 0)
}

// A message whose context ends before it is stored is not accepted.
func TestCanceledAcceptAddsNothing(t *testing.T) {
	u := newUpstream()
	b := open(t, t.TempDir(), u, quickPolicy())
	accepted := 0
	for i := range 200 {
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			for range i {
				runtime.Gosched()
			}
			leave()
		}()
		if b.Accept(ctx, "svc", message("x")) == nil {
			accepted++
		}
		leave()
	}
	b.waitFor(t, "the accepted messages are delivered", func(s events.QueueStatus) bool { return s.Waiting == 0 && s.Delivered == uint64(accepted) })
	b.wantCounts(t, 0, 0)
	if n := len(u.bodies()); n != accepted {
		t.Errorf("%d accepted, %d sent", accepted, n)
	}
}

func TestDeadLettersBeyondCapacityAreLost(t *testing.T) {
	u := newUpstream()
	u.setAnswer(answerWith(404))
	p := quickPolicy()
	p.Capacity = 100
	b := open(t, "", u, p)
	b.accept(t, sequence(0, 100)...)
	b.waitFor(t, "they are dead", empty)
	p.Capacity = 3
	b.Configure("svc", p)
	b.accept(t, "last")
	s := b.waitFor(t, "it is dead", func(s events.QueueStatus) bool { return s.Died == 101 })
	var dead []string
	for _, i := range b.list(t, queue.StateDead) {
		dead = append(dead, i.Path)
	}
	equal(t, dead, []string{"/svc/98", "/svc/99", "/svc/last"})
	if s.Lost != 98 {
		t.Errorf("%+v", s)
	}
	b.wantCounts(t, 0, 3)
}

func TestWaitingReturnsReason(t *testing.T) {
	u := newUpstream()
	b := open(t, "", u, slowPolicy())
	if reason, waiting := b.Waiting("svc"); waiting || reason != "" {
		t.Errorf("empty: %v %q", waiting, reason)
	}
	for answer, want := range map[*queue.Failed]events.Reason{
		{Reason: events.ReasonConnect, Err: errors.New("x")}: events.ReasonConnect,
		{Reason: events.ReasonTimeout, Err: errors.New("x")}: events.ReasonTimeout,
		nil: events.ReasonStatus,
	} {
		u.setAnswer(func(*queue.Message, int) (queue.Answer, error) {
			if answer != nil {
				return queue.Answer{}, answer
			}
			return queue.Answer{Status: 503}, nil
		})
		b.accept(t, "a")
		b.waitFor(t, "it has failed", func(s events.QueueStatus) bool { return s.LastError != "" })
		if reason, waiting := b.Waiting("svc"); !waiting || reason != want {
			t.Errorf("waiting %v, %q, want %q", waiting, reason, want)
		}
		u.setAnswer(nil)
		b.recover()
		s := b.waitFor(t, "it is delivered", empty)
		if reason, waiting := b.Waiting("svc"); waiting || reason != "" || s.LastError != "" || s.Oldest != nil {
			t.Errorf("afterwards: %v %q %+v", waiting, reason, s)
		}
	}
}
