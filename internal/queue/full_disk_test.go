package queue_test

import (
	"errors"
	"testing"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
	"cbproxy/internal/testenv"
)

// A message that the upstream rejected must not be sent again because it cannot be stored as a dead letter, and must not block others.
func TestRejectedMessageIsSentOnceOnAFullDisk(t *testing.T) {
	for name, ordered := range map[string]bool{"ordered": true, "unordered": false} {
		t.Run(name, func(t *testing.T) {
			folder := testenv.MountDisk(t, "16m")
			u := newUpstream()
			u.setAnswer(func(m *queue.Message, _ int) (queue.Answer, error) {
				if string(m.Body) == "rejected" {
					return queue.Answer{Status: 400}, nil
				}
				return queue.Answer{Status: 200}, nil
			})
			q := openStopped(t, folder, u)
			p := quickPolicy()
			p.Ordered = ordered
			q.Configure("svc", p)
			q.accept(t, "rejected", "next")
			free := testenv.FillDisk(t, folder)
			q.run(t)
			for u.next(t).body != "next" {
			}
			if s := q.Status("svc"); s.Dead != 0 || u.count("rejected") != 1 {
				t.Fatalf("sent %d times, %+v", u.count("rejected"), s)
			}
			if reason, waiting := q.Waiting("svc"); waiting {
				t.Errorf("new requests wait behind the dead letter: %v", reason)
			}
			free()
			q.waitFor(t, "it becomes a dead letter", func(s events.QueueStatus) bool { return s.Dead == 1 && s.Waiting == 0 })
			items, err := q.List("svc", queue.StateDead, "", 10)
			if err != nil || len(items) != 1 || items[0].Cause != string(queue.CauseRefused) || items[0].LastError != "status 400" {
				t.Errorf("%v, %+v", err, items)
			}
			if n := u.count("rejected"); n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

// Attempts count although they cannot be stored, so that a message is not sent more often than max_attempts, and its delays grow.
func TestAttemptsCountOnAFullDisk(t *testing.T) {
	folder := testenv.MountDisk(t, "16m")
	u := newUpstream()
	u.setAnswer(func(*queue.Message, int) (queue.Answer, error) {
		return queue.Answer{}, &queue.Failed{Reason: events.ReasonTimeout, Err: errors.New("no answer")}
	})
	q := openStopped(t, folder, u)
	p := quickPolicy()
	p.MaxAttempts = 5
	q.Configure("svc", p)
	q.accept(t, "m")
	free := testenv.FillDisk(t, folder)
	q.run(t)
	for i := range p.MaxAttempts {
		if s := u.next(t); s.attempt != i+1 {
			t.Fatalf("attempt %d, want %d", s.attempt, i+1)
		}
	}
	free()
	q.waitFor(t, "it becomes a dead letter", func(s events.QueueStatus) bool { return s.Dead == 1 && s.Waiting == 0 })
	if n := u.count("m"); n != p.MaxAttempts {
		t.Errorf("sent %d times, want %d", n, p.MaxAttempts)
	}
	items, err := q.List("svc", queue.StateDead, "", 10)
	if err != nil || len(items) != 1 || items[0].Attempts != p.MaxAttempts || items[0].Cause != string(queue.CauseAttempts) {
		t.Errorf("%v, %+v", err, items)
	}
}

// A drop removes the message, or fails and leaves it. In particular it must not remove the message and leave it in the number of waiting
// ones, because an ordered queue would then queue new requests for ever.
func TestDropOnAFullDisk(t *testing.T) {
	folder := testenv.MountDisk(t, "16m")
	b := openStopped(t, folder, newUpstream())
	b.Configure("svc", quickPolicy())
	b.accept(t, "a", "b")
	testenv.FillDisk(t, folder)
	t.Cleanup(b.stop)
	dropped := 0
	for _, item := range b.list(t, queue.StateWaiting) {
		if _, err := b.Drop(item.ID); err == nil {
			dropped++
		}
	}
	b.wantCounts(t, 2-dropped, 0)
	if s := b.Status("svc"); s.Waiting != 2-dropped {
		t.Errorf("%d dropped, %+v", dropped, s)
	}
}
