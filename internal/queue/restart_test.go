package queue_test

import (
	"context"
	"fmt"
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
