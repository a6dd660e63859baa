package queue_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
)

// Shutdown waits a limited time for the delivery in flight, and loses no message.
func TestShutdownDuringDelivery(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(ctx context.Context) (queue.Answer, error)
		left   int
	}{
		"answers in time": {func(context.Context) (queue.Answer, error) { return queue.Answer{Status: 200}, nil }, 0},
		"answers at the last moment": {func(ctx context.Context) (queue.Answer, error) {
			<-ctx.Done()
			return queue.Answer{Status: 200}, nil
		}, 0},
		"does not answer": {func(ctx context.Context) (queue.Answer, error) {
			<-ctx.Done()
			return queue.Answer{}, &queue.Failed{Reason: events.ReasonTimeout, Err: ctx.Err()}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			asked, end := make(chan bool), make(chan bool)
			b := open(t, folder, senderFunc(func(ctx context.Context, _ *queue.Message) (queue.Answer, error) {
				asked <- true
				<-end
				return c.answer(ctx)
			}), quickPolicy())
			b.accept(t, "a")
			<-asked
			stopped := make(chan struct{})
			go func() { defer close(stopped); b.stop() }()
			close(end)
			select {
			case <-stopped:
			case <-time.After(15 * time.Second):
				t.Fatal("the queue does not stop")
			}
			again := openStopped(t, folder, newUpstream())
			defer again.stop()
			again.wantCounts(t, c.left, 0)
			if items := again.list(t, queue.StateWaiting); c.left == 1 && items[0].Attempts != 0 {
				t.Errorf("%+v: a canceled delivery counts as an attempt", items)
			}
		})
	}
}

type senderFunc func(context.Context, *queue.Message) (queue.Answer, error)

func (f senderFunc) Send(ctx context.Context, _ string, m *queue.Message) (queue.Answer, error) {
	return f(ctx, m)
}

// LastSuccess implements queue.Sender.
func (senderFunc) LastSuccess(string) time.Time { return time.Time{} }

// A restart keeps the order, attempts, delays and dead letters.
func TestRestartKeepsMessagesAndNotes(t *testing.T) {
	folder := t.TempDir()
	u := newUpstream()
	u.setAnswer(func(m *queue.Message, _ int) (queue.Answer, error) {
		if string(m.Body) == "bad" {
			return queue.Answer{Status: 422}, nil
		}
		return queue.Answer{Status: 503, RetryAfter: time.Minute}, nil
	})
	b := open(t, folder, u, slowPolicy())
	b.accept(t, "bad", "a", "b")
	b.waitFor(t, "the first has failed", func(events.QueueStatus) bool { return b.list(t, queue.StateWaiting)[0].Attempts == 1 })
	before := b.list(t, queue.StateWaiting)
	b.stop()

	u.setAnswer(nil)
	b = open(t, folder, u, slowPolicy())
	b.wantCounts(t, 2, 1)
	after := b.list(t, queue.StateWaiting)
	if len(after) != 2 || after[0].Attempts != 1 || after[0].ID != before[0].ID || !after[0].NotBefore.Equal(before[0].NotBefore) || after[0].LastError != "status 503" {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if dead := b.list(t, queue.StateDead); dead[0].Cause != "refused" || dead[0].LastError != "status 422" {
		t.Errorf("dead %+v", dead)
	}
	s := b.waitFor(t, "the first is delayed", func(s events.QueueStatus) bool { return s.NextAttempt != nil })
	if s.NextAttempt.Sub(after[0].NotBefore).Abs() > time.Second || s.Waiting != 2 || !s.Oldest.Equal(after[0].Accepted) {
		t.Errorf("%+v", s)
	}
	if n := len(u.bodies()); n != 2 {
		t.Errorf("%d messages were sent too early", n-2)
	}
	b.recover()
	b.waitFor(t, "all are delivered", empty)
	equal(t, u.bodies()[2:], []string{"a", "b"})
}

// Stored messages of services without a configuration are delivered.
func TestUnconfiguredQueuesAreDelivered(t *testing.T) {
	folder := t.TempDir()
	u := newUpstream()
	b := openStopped(t, folder, u)
	for i := range 3 {
		if err := b.Accept(t.Context(), fmt.Sprint("s", i), message("x")); err != nil {
			t.Fatal(err)
		}
	}
	b.stop()
	b = openStopped(t, folder, u)
	b.run(t)
	for range 3 {
		u.next(t)
	}
	if got := fmt.Sprint(b.Services()); got != "[s0 s1 s2]" {
		t.Error(got)
	}
}

func TestStatusChangesArePublished(t *testing.T) {
	u := newUpstream()
	b := open(t, "", u, slowPolicy())
	sub := b.bus.Subscribe(100)
	defer sub.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b.accept(t, "a")
	for {
		e, _, err := sub.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := e.(events.QueueChanged); ok && c.Waiting == 0 && c.Delivered == 1 && c.Service == "svc" {
			return
		}
	}
}

// A service without a queue in the configuration has neither limits nor keys. Its messages wait until it has a queue again.
func TestUnconfiguredQueueGivesUpNoMessage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := queue.ReadKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		keys   *queue.Keyring
		answer func(*queue.Message, int) (queue.Answer, error)
	}{
		"encrypted": {keys: keys},
		"plain": {answer: func(*queue.Message, int) (queue.Answer, error) {
			return queue.Answer{}, &queue.NotAdmitted{RetryAt: time.Now().Add(time.Minute)} // as for a service without a route
		}},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			p := quickPolicy()
			p.MaxAge, p.Keys = 100*time.Hour, c.keys
			u := newUpstream()
			b := openStopped(t, folder, u)
			b.Configure("svc", p)
			m := message("a")
			m.Accepted = time.Now().Add(-48 * time.Hour)
			if err := b.Accept(t.Context(), "svc", m); err != nil {
				t.Fatal(err)
			}
			b.accept(t, "b")
			b.stop()
			u.setAnswer(c.answer)
			b = openStopped(t, folder, u)
			b.run(t)
			b.waitFor(t, "the next attempt is scheduled", func(s events.QueueStatus) bool { return s.NextAttempt != nil })
			b.wantCounts(t, 2, 0)
			u.setAnswer(nil)
			b.Configure("svc", p)
			b.waitFor(t, "both are delivered", empty)
			b.wantCounts(t, 0, 0)
		})
	}
}

// While a set-aside message waits to be read, it may be dropped. It must not be counted as set aside afterwards, because as many later
// messages would not make new requests wait.
func TestDroppedMessagesAreNotSetAside(t *testing.T) {
	folder := t.TempDir()
	u := newUpstream()
	b := openStopped(t, folder, u)
	b.Configure("svc", quickPolicy())
	b.accept(t, "a", "b")
	for seq := range uint64(2) {
		if err := b.store.SetDeliveryState("svc", seq+1, []byte(`{"attempts":3,"failures":3,"aside":true}`)); err != nil {
			t.Fatal(err)
		}
	}
	tried := make(chan string, 100)
	u.setAnswer(func(m *queue.Message, _ int) (queue.Answer, error) {
		tried <- string(m.Body)
		return queue.Answer{}, &queue.NotAdmitted{RetryAt: time.Now().Add(time.Hour)}
	})
	b.run(t)
	<-tried // both have been read
	for _, id := range []string{"svc.2", "svc.1"} {
		if _, err := b.Drop(id); err != nil {
			t.Fatal(err)
		}
	}
	b.waitFor(t, "the queue is empty", empty)
	b.accept(t, "c")
	b.recover()
	for <-tried != "c" {
	}
	if _, waiting := b.Waiting("svc"); !waiting {
		t.Error("a request is waiting, and new ones bypass the queue")
	}
}
