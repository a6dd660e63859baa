package queue_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
)

// failsFor answers 500 to messages whose body has the prefix, and 200 to all others.
func failsFor(prefix string) func(*queue.Message, int) (queue.Answer, error) {
	return func(m *queue.Message, _ int) (queue.Answer, error) {
		if strings.HasPrefix(string(m.Body), prefix) {
			return queue.Answer{Status: 500}, nil
		}
		return queue.Answer{Status: 200}, nil
	}
}

// defaultWaitPolicy returns a policy with the default backoffs.
func defaultWaitPolicy() queue.Policy {
	p := quickPolicy()
	p.Backoff, p.MaxBackoff, p.MaxAge = time.Second, 5*time.Minute, 24*time.Hour
	return p
}

// withoutPrefix returns the bodies that do not have the prefix.
func withoutPrefix(prefix string, bodies []string) []string {
	return slices.DeleteFunc(slices.Clone(bodies), func(b string) bool { return strings.HasPrefix(b, prefix) })
}

// A message that fails while the following ones succeed blocks them for a few attempts only.
func TestPoisonMessageIsSetAside(t *testing.T) {
	for name, c := range map[string]struct {
		bodies []string
		within time.Duration
		answer func(*queue.Message, int) (queue.Answer, error)
	}{
		"at the head":            {append([]string{"p"}, sequence(0, 5)...), 2 * time.Second, failsFor("p")},
		"in the middle":          {append(append(sequence(0, 5), "p"), sequence(5, 10)...), 2 * time.Second, failsFor("p")},
		"several at once":        {append([]string{"p1", "p2", "p3"}, sequence(0, 5)...), 40 * time.Second, failsFor("p")},
		"several, separated":     {[]string{"p1", "0", "p2", "1", "p3", "2"}, 10 * time.Second, failsFor("p")},
		"with one following":     {[]string{"p", "0"}, 2 * time.Second, failsFor("p")},
		"with others, separated": {[]string{"0", "p1", "1", "p2"}, 5 * time.Second, failsFor("p")},
		"with a Retry-After": {append([]string{"p"}, sequence(0, 5)...), 25 * time.Second, func(m *queue.Message, n int) (queue.Answer, error) {
			a, err := failsFor("p")(m, n)
			if a.Status == 500 {
				a = queue.Answer{Status: 503, RetryAfter: 20 * time.Second}
			}
			return a, err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream()
				u.setAnswer(c.answer)
				b := openStopped(t, "", u)
				b.Configure("svc", defaultWaitPolicy())
				b.accept(t, c.bodies...)
				b.run(t)
				defer b.stop()
				good := withoutPrefix("p", c.bodies)
				poison := len(c.bodies) - len(good)
				time.Sleep(c.within)
				synctest.Wait()
				equal(t, withoutPrefix("p", u.bodies()), good)
				b.wantCounts(t, poison, 0)
				time.Sleep(time.Hour)
				synctest.Wait()
				for _, i := range b.list(t, queue.StateWaiting) {
					if name != "with others, separated" && !i.Aside || i.Attempts < 5 {
						t.Errorf("%+v", i)
					}
				}
				u.setAnswer(nil)
				time.Sleep(time.Hour)
				synctest.Wait()
				b.wantCounts(t, 0, 0)
			})
		})
	}
}

// New messages do not wait for a message that is set aside.
func TestMessageSetAsideDelaysNoOthers(t *testing.T) {
	withFakeClock(t, defaultWaitPolicy(), func(t *testing.T, b *testQueue, u *upstream) {
		u.setAnswer(failsFor("p"))
		b.accept(t, "p", "a")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if _, waiting := b.Waiting("svc"); waiting {
			t.Error("other messages wait for it")
		}
		b.accept(t, "b", "c") // are sent at once although the poison message is delayed
		synctest.Wait()
		equal(t, withoutPrefix("p", u.bodies()), []string{"a", "b", "c"})
		if s := b.Status("svc"); s.Waiting != 1 {
			t.Errorf("%+v", s)
		}
		id := b.list(t, queue.StateWaiting)[0].ID
		if _, err := b.Drop(id); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.wantCounts(t, 0, 0)
		u.setAnswer(failToConnect)
		b.accept(t, "d")
		synctest.Wait()
		if _, waiting := b.Waiting("svc"); !waiting {
			t.Error("the undeliverable message does not block the queue")
		}
	})
}

// A Retry-After that only one message receives applies to that message alone if client requests succeed.
func TestRetryAfterForOneMessage(t *testing.T) {
	for name, c := range map[string]struct {
		status, all int // all: how many messages receive it
		clients     bool
		sent        int // of the other messages, within a minute
	}{
		"503, and clients succeed":    {503, 1, true, 3},
		"503, and no client requests": {503, 1, false, 0},
		"503 for all":                 {503, 4, true, 1},
		"429, and clients succeed":    {429, 1, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			withFakeClock(t, defaultWaitPolicy(), func(t *testing.T, b *testQueue, u *upstream) {
				u.setAnswer(func(m *queue.Message, _ int) (queue.Answer, error) {
					if n := strings.Index("pabc", string(m.Body)); n < c.all {
						return queue.Answer{Status: c.status, RetryAfter: time.Hour}, nil
					}
					return queue.Answer{Status: 200}, nil
				})
				b.accept(t, "p", "a", "b", "c")
				for range 60 {
					time.Sleep(time.Second)
					if c.clients {
						u.recordSuccess()
					}
				}
				synctest.Wait()
				if got := withoutPrefix("p", u.bodies()); len(got) != c.sent || c.sent > 1 && !slices.Equal(got, []string{"a", "b", "c"}) {
					t.Errorf("sent %q", got)
				}
				if n := u.count("p"); n > 3 {
					t.Errorf("the message with the Retry-After was sent %d times", n)
				}
			})
		})
	}
}

// New messages arrive behind a poison message that was alone in the queue.
func TestSinglePoisonMessageDoesNotBlockNewMessages(t *testing.T) {
	withFakeClock(t, defaultWaitPolicy(), func(t *testing.T, b *testQueue, u *upstream) {
		u.setAnswer(failsFor("p"))
		b.accept(t, "p")
		time.Sleep(30 * time.Minute)
		b.accept(t, "a")
		synctest.Wait()
		equal(t, withoutPrefix("p", u.bodies()), []string{"a"})
	})
}

// If an upstream fails for all messages, no message is set aside, and after the recovery they are delivered in order.
func TestFailingUpstreamSetsNothingAside(t *testing.T) {
	for name, answer := range map[string]func(*queue.Message, int) (queue.Answer, error){
		"500": answerWith(500), "503": answerWith(503), "429": answerWith(429), "is down": failToConnect,
		"503 with a Retry-After": func(*queue.Message, int) (queue.Answer, error) {
			return queue.Answer{Status: 503, RetryAfter: time.Minute}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			withFakeClock(t, defaultWaitPolicy(), func(t *testing.T, b *testQueue, u *upstream) {
				u.setAnswer(answer)
				all := sequence(0, 40)
				b.accept(t, all[:20]...)
				time.Sleep(time.Hour)
				b.accept(t, all[20:]...)
				time.Sleep(time.Hour)
				synctest.Wait()
				if n := len(u.bodies()); n > 20*3+2*120 {
					t.Errorf("%d attempts in 2h", n)
				}
				for _, i := range b.list(t, queue.StateWaiting) {
					if i.Aside {
						t.Errorf("set aside: %+v", i)
					}
				}
				failed := len(u.bodies())
				u.setAnswer(nil)
				time.Sleep(time.Hour)
				synctest.Wait()
				equal(t, u.bodies()[failed:], all)
				b.wantCounts(t, 0, 0)
			})
		})
	}
}

// A recovery of the upstream is not mistaken for a poison message at the head of the queue.
func TestRecoveryKeepsOrderOfFailedMessages(t *testing.T) {
	withFakeClock(t, defaultWaitPolicy(), func(t *testing.T, b *testQueue, u *upstream) {
		for range 20 {
			u.setAnswer(answerWith(500))
			b.accept(t, "a", "b", "c")
			time.Sleep(time.Minute)
			synctest.Wait()
			failed := len(u.bodies())
			u.setAnswer(nil)
			b.recover()
			synctest.Wait()
			equal(t, u.bodies()[failed:], []string{"a", "b", "c"})
		}
	})
}

// A message becomes a suspect at the second failure that it may have caused, also after restarts, but not within moments.
func TestSenderIsToldOfSuspects(t *testing.T) {
	p := defaultWaitPolicy()
	p.Backoff, p.MaxBackoff = 100*time.Millisecond, 100*time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		var suspects []bool
		u := newUpstream()
		u.setAnswer(func(m *queue.Message, attempt int) (queue.Answer, error) {
			suspects = append(suspects, m.SuspectedPoison)
			if attempt > 2 && attempt < 20 {
				return failToConnect(m, attempt)
			}
			return queue.Answer{Status: 500}, nil
		})
		b := open(t, folder, u, p)
		b.accept(t, "a")
		time.Sleep(5 * time.Second)
		b.stop()
		if first := slices.Index(suspects, true); first < 6 || first > 12 {
			t.Errorf("attempt %d was the first as a suspect: %v", first+1, suspects)
		}
		suspects = nil
		b = open(t, folder, u, p)
		u.next(t)
		time.Sleep(time.Second)
		b.stop()
		if slices.Contains(suspects, false) || len(suspects) == 0 {
			t.Errorf("after the restart: %v", suspects)
		}
	})
}

// With restarts in between, all other messages are delivered once and in order.
func TestPoisonMessageIsSetAsideAcrossRestarts(t *testing.T) {
	folder := t.TempDir()
	u := newUpstream()
	u.setAnswer(failsFor("p"))
	b := open(t, folder, u, quickPolicy())
	var all []string
	for i := range 30 {
		all = append(all, []string{"p", ""}[min(i%5, 1)]+fmt.Sprint(i))
	}
	for i := range all {
		b.accept(t, all[i])
		if i%3 == 0 {
			b.stop()
			b = open(t, folder, u, quickPolicy())
		}
	}
	b.waitFor(t, "the other messages are delivered", func(s events.QueueStatus) bool { return s.Waiting == 6 })
	equal(t, withoutPrefix("p", u.bodies()), withoutPrefix("p", all))
	u.setAnswer(nil)
	b.waitFor(t, "all are delivered", empty)
	b.wantCounts(t, 0, 0)
	if n := len(u.bodies()); n < 30 {
		t.Errorf("%d messages were sent", n)
	}
}

// In an unordered queue, messages that fail repeatedly do not delay others.
func TestPoisonMessagesDoNotPauseUnorderedQueue(t *testing.T) {
	p := defaultWaitPolicy()
	p.Ordered = false
	withFakeClock(t, p, func(t *testing.T, b *testQueue, u *upstream) {
		u.setAnswer(failsFor("p"))
		b.accept(t, "p1", "p2", "p3")
		time.Sleep(2 * time.Hour) // the pause after a failure has grown
		for i := range 10 {
			b.accept(t, fmt.Sprint(i))
			synctest.Wait()
			if n := len(withoutPrefix("p", u.bodies())); n != i+1 {
				t.Fatalf("%d of %d messages were sent at once", n, i+1)
			}
			time.Sleep(time.Minute)
		}
	})
}

// A poison message on which the upstream hangs takes up only a share of the time.
func TestPoisonMessageThatHangsTakesAShareOfTheTime(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		t.Run(fmt.Sprintf("ordered %v", ordered), func(t *testing.T) {
			p := defaultWaitPolicy()
			p.Ordered = ordered
			withFakeClock(t, p, func(t *testing.T, b *testQueue, u *upstream) {
				const timeout = 30 * time.Second
				var hung atomic.Int64
				u.setAnswer(func(m *queue.Message, _ int) (queue.Answer, error) {
					if m.Body[0] != 'p' {
						return queue.Answer{Status: 200}, nil
					}
					time.Sleep(timeout)
					hung.Add(int64(timeout))
					return queue.Answer{}, &queue.Failed{Reason: "timeout", Err: fmt.Errorf("timeout")}
				})
				for i := range 5 {
					b.accept(t, fmt.Sprint("p", i))
				}
				b.accept(t, "first")
				time.Sleep(2 * time.Hour)
				began, was := time.Now(), hung.Load()
				n := len(withoutPrefix("p", u.bodies()))
				for i := range 3600 {
					b.accept(t, fmt.Sprint(i))
					time.Sleep(time.Second)
				}
				if share := float64(hung.Load()-was) / float64(time.Since(began)); share > 0.5 {
					t.Errorf("the poison messages took %.2f of the time", share)
				}
				if n := len(withoutPrefix("p", u.bodies())) - n; n < 3500 {
					t.Errorf("%d of 3600 other messages were delivered", n)
				}
			})
		})
	}
}

// A suspect that expires while the breaker is open becomes a dead letter, and the worker must not spin until the breaker closes.
func TestSuspectExpiresWhileTheBreakerIsOpen(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		t.Run(fmt.Sprintf("ordered %v", ordered), func(t *testing.T) {
			p := quickPolicy()
			p.Ordered, p.MaxAge, p.Backoff, p.MaxBackoff = ordered, 3*time.Second, time.Second, time.Second
			u := newUpstream()
			u.setAnswer(func(_ *queue.Message, attempt int) (queue.Answer, error) {
				if attempt > 2 {
					return queue.Answer{}, &queue.NotAdmitted{RetryAt: time.Now().Add(time.Hour)}
				}
				return queue.Answer{}, &queue.Failed{Reason: events.ReasonTimeout, Err: errors.New("no answer")}
			})
			b := open(t, "", u, p)
			b.accept(t, "a")
			b.waitFor(t, "it has expired", func(s events.QueueStatus) bool { return s.Dead == 1 && s.Waiting == 0 })
		})
	}
}
