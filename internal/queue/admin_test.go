package queue_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
)

func TestUnknownIDs(t *testing.T) {
	u := newUpstream()
	b := open(t, "", u, quickPolicy())
	b.accept(t, "a")
	b.waitFor(t, "it is delivered", empty)
	b.wantCounts(t, 0, 0)
	for _, id := range []string{"", "svc", "svc.", "svc.0", "svc.1", "svc.-1", "svc.x", "svc.99999999999999999999", "other.1", ".1", "svc.1.1"} {
		if _, err := b.Drop(id); !errors.Is(err, queue.ErrUnknown) {
			t.Errorf("drop %q: %v", id, err)
		}
		if _, err := b.Retry(t.Context(), id); !errors.Is(err, queue.ErrUnknown) {
			t.Errorf("retry %q: %v", id, err)
		}
	}
	b.accept(t, "b")
	b.waitFor(t, "the next one is delivered", empty)
	b.wantCounts(t, 0, 0)
}

func TestDrop(t *testing.T) {
	u := newUpstream()
	u.setAnswer(func(m *queue.Message, _ int) (queue.Answer, error) {
		if string(m.Body) == "bad" {
			return queue.Answer{Status: 400}, nil
		}
		return failToConnect(m, 1)
	})
	b := open(t, t.TempDir(), u, slowPolicy())
	b.accept(t, "bad", "a", "b", "c", "d")
	b.waitFor(t, "one has failed", func(s events.QueueStatus) bool { return s.Retried >= 1 && s.Dead == 1 })
	waiting, dead := b.list(t, queue.StateWaiting), b.list(t, queue.StateDead)
	for _, i := range []events.QueuedRequest{waiting[0], waiting[2], dead[0]} { // delayed, read ahead, dead
		got, err := b.Drop(i.ID)
		for errors.Is(err, queue.ErrInFlight) { // its failure is still being recorded
			got, err = b.Drop(i.ID)
		}
		if err != nil || got.ID != i.ID || got.State != i.State {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := b.Drop(i.ID); !errors.Is(err, queue.ErrUnknown) {
			t.Errorf("again: %v", err)
		}
	}
	b.wantCounts(t, 2, 0)
	u.setAnswer(nil)
	b.recover()
	b.waitFor(t, "the rest is delivered", empty)
	if all := u.bodies(); u.count("c") != 0 || !slices.Equal(all[len(all)-2:], []string{"b", "d"}) {
		t.Errorf("sent %q", all)
	}
	b.wantCounts(t, 0, 0)
}

// After a restart only the delay of the first message blocks the others.
func TestDropOfFirstMessageUnblocksNext(t *testing.T) {
	folder, u := t.TempDir(), newUpstream()
	u.setAnswer(failToConnect)
	b := open(t, folder, u, slowPolicy())
	b.accept(t, "a", "b")
	b.waitFor(t, "the first has failed", func(events.QueueStatus) bool { return b.list(t, queue.StateWaiting)[0].Attempts > 0 })
	b.stop()
	u.setAnswer(nil)
	b = open(t, folder, u, slowPolicy())
	b.waitFor(t, "the first is delayed", func(s events.QueueStatus) bool { return s.NextAttempt != nil })
	if _, err := b.Drop(b.list(t, queue.StateWaiting)[0].ID); err != nil {
		t.Fatal(err)
	}
	b.waitFor(t, "the second is delivered", empty)
	b.wantCounts(t, 0, 0)
	if n := u.count("b"); n != 1 {
		t.Errorf("the second message was sent %d times", n)
	}
}

func TestDropOfMessageInFlight(t *testing.T) {
	u := newUpstream()
	asked, end := make(chan bool), make(chan bool)
	u.setAnswer(func(*queue.Message, int) (queue.Answer, error) {
		asked <- true
		<-end
		return queue.Answer{Status: 200}, nil
	})
	b := open(t, "", u, quickPolicy())
	b.accept(t, "a")
	<-asked
	id := b.list(t, queue.StateWaiting)[0].ID
	if _, err := b.Drop(id); !errors.Is(err, queue.ErrInFlight) {
		t.Errorf("%v", err)
	}
	if _, err := b.Retry(t.Context(), id); err != nil {
		t.Errorf("%v", err)
	}
	close(end)
	b.waitFor(t, "it is delivered", empty)
	b.wantCounts(t, 0, 0)
}

func TestRetryDeadLetters(t *testing.T) {
	u := newUpstream()
	u.setAnswer(answerWith(500))
	p := quickPolicy()
	p.MaxAttempts = 2
	b := open(t, t.TempDir(), u, p)
	b.accept(t, "a", "b")
	b.waitFor(t, "both are dead", empty)
	dead := b.list(t, queue.StateDead)
	got, err := b.Retry(t.Context(), dead[0].ID)
	if err != nil || got.State != queue.StateWaiting || got.Path != "/svc/a" || got.Attempts != 0 || got.ID == dead[0].ID {
		t.Errorf("%+v, %v", got, err)
	}
	b.waitFor(t, "it is dead again", func(s events.QueueStatus) bool { return s.Died == 3 })
	if again := b.list(t, queue.StateDead); len(again) != 2 || again[1].Attempts != 2 || again[1].ID != got.ID {
		t.Errorf("%+v", again)
	}
	u.setAnswer(nil)
	// Several operators retry the same message concurrently.
	for _, i := range b.list(t, queue.StateDead) {
		var all sync.WaitGroup
		var retried atomic.Int32
		for range 8 {
			all.Go(func() {
				switch _, err := b.Retry(t.Context(), i.ID); {
				case err == nil:
					retried.Add(1)
				case !errors.Is(err, queue.ErrUnknown):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if retried.Load() != 1 {
			t.Errorf("%d of 8 concurrent retries succeeded", retried.Load())
		}
	}
	b.waitFor(t, "both are delivered", empty)
	b.wantCounts(t, 0, 0)
	if s := b.Status("svc"); s.Delivered != 2 {
		t.Errorf("%+v", s)
	}
}

func TestListIsPaged(t *testing.T) {
	b := openStopped(t, "", newUpstream())
	defer b.stop()
	b.accept(t, sequence(0, 25)...)
	var got []string
	for after := ""; ; {
		items, err := b.List("svc", queue.StateWaiting, after, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) == 0 {
			break
		}
		for _, i := range items {
			got = append(got, strings.TrimPrefix(i.Path, "/svc/"))
			after = i.ID
		}
	}
	equal(t, got, sequence(0, 25))
}

// Each message has one final outcome and is counted once, also with concurrent retries and drops.
func TestEachMessageIsCountedOnce(t *testing.T) {
	for name, p := range map[string]queue.Policy{
		"ordered": quickPolicy(),
		"unordered": func() queue.Policy {
			p := quickPolicy()
			p.Ordered = false
			return p
		}(),
		"expiring": func() queue.Policy {
			p := quickPolicy()
			p.MaxAge = 3 * time.Millisecond
			return p
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream()
			u.setAnswer(func(m *queue.Message, attempt int) (queue.Answer, error) {
				switch len(m.Body) % 5 {
				case 0:
					return queue.Answer{Status: 400}, nil
				case 1:
					if attempt < 3 {
						return queue.Answer{Status: 500}, nil
					}
				}
				return queue.Answer{Status: 200}, nil
			})
			b := open(t, t.TempDir(), u, p)
			var dropped, droppedDead, retried atomic.Uint64
			var negative atomic.Bool
			done := make(chan struct{})
			var accepting, operating sync.WaitGroup
			for c := range 4 {
				accepting.Go(func() {
					for i := range 50 {
						b.accept(t, strings.Repeat("x", c+i))
					}
				})
			}
			for o := range 3 {
				operating.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-done:
							return
						default:
						}
						for _, state := range []string{queue.StateWaiting, queue.StateDead} {
							items, err := b.List("svc", state, "", 3)
							if err != nil {
								t.Error(err)
							}
							for _, i := range items {
								if (n+o)%3 == 0 {
									if i, err := b.Drop(i.ID); err == nil && i.State == queue.StateWaiting {
										dropped.Add(1)
									} else if err == nil {
										droppedDead.Add(1)
									}
								} else if again, err := b.Retry(t.Context(), i.ID); err == nil && again.ID != i.ID { // it was a dead letter
									retried.Add(1)
								}
							}
						}
						if s := b.Status("svc"); s.Waiting < 0 || s.Waiting > 204 {
							negative.Store(true)
						}
					}
				})
			}
			accepting.Wait()
			time.Sleep(20 * time.Millisecond)
			close(done)
			operating.Wait()
			s := b.waitFor(t, "all are delivered or dead", empty)
			b.wantCounts(t, 0, s.Dead)
			s = b.Status("svc")
			if s.Accepted != 200 || s.Accepted+retried.Load() != s.Delivered+s.Died+dropped.Load() || s.Died != uint64(s.Dead)+retried.Load()+droppedDead.Load() {
				t.Errorf("%+v; %d waiting and %d dead ones were dropped, %d dead ones were retried", s, dropped.Load(), droppedDead.Load(), retried.Load())
			}
			if negative.Load() {
				t.Error("the number of waiting messages was out of range")
			}
			// The next message is queued as well. A negative depth would hide it.
			u.setAnswer(failToConnect)
			q := slowPolicy()
			b.Configure("svc", q)
			b.accept(t, "last")
			if _, waiting := b.Waiting("svc"); !waiting {
				t.Error("the accepted message does not wait")
			}
			b.wantCounts(t, 1, s.Dead)
			if fmt.Sprint(b.list(t, queue.StateWaiting)[0].Path) != "/svc/last" {
				t.Error("another message waits")
			}
		})
	}
}

// A dead letter that had expired must get its max_age again, or it would expire at once.
func TestRetryOfExpiredMessageSendsIt(t *testing.T) {
	folder := t.TempDir()
	u := newUpstream()
	p := quickPolicy()
	p.MaxAge = time.Minute
	b := openStopped(t, folder, u)
	b.Configure("svc", p)
	m := message("a")
	m.Accepted = time.Now().Add(-time.Hour)
	if err := b.Accept(t.Context(), "svc", m); err != nil {
		t.Fatal(err)
	}
	b.run(t)
	b.waitFor(t, "it has expired", func(s events.QueueStatus) bool { return s.Dead == 1 && s.Waiting == 0 })
	dead := b.list(t, queue.StateDead)
	u.setAnswer(failToConnect)
	got, err := b.Retry(t.Context(), dead[0].ID)
	if err != nil || !got.Accepted.Equal(dead[0].Accepted) {
		t.Fatalf("%+v, %v", got, err)
	}
	u.next(t)
	b.stop()
	b = open(t, folder, u, p) // the new age counts after a restart, too
	u.next(t)
	u.setAnswer(nil)
	b.waitFor(t, "it is delivered", func(s events.QueueStatus) bool { return s.Waiting == 0 })
	b.wantCounts(t, 0, 0)
}
