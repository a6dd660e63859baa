package queue_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
)

// withFakeClock runs test with a queue in memory and a fake clock.
func withFakeClock(t *testing.T, p queue.Policy, test func(t *testing.T, b *testQueue, u *upstream)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		b := open(t, "", u, p)
		defer b.stop()
		synctest.Wait() // the worker must wait for messages before the first one, or the first one ends a pause
		test(t, b, u)
	})
}

func TestBackoffGrowsUpToMaximum(t *testing.T) {
	p := quickPolicy()
	p.Backoff, p.MaxBackoff = time.Second, time.Minute
	withFakeClock(t, p, func(t *testing.T, b *testQueue, u *upstream) {
		u.setAnswer(failToConnect)
		b.accept(t, "a")
		last := u.next(t).at
		exact := 0
		for i := range 12 {
			s := u.next(t)
			wait, want := s.at.Sub(last), min(time.Second<<i, time.Minute)
			if wait < want*3/4 || wait > min(want*5/4, time.Minute)+time.Millisecond {
				t.Errorf("delay %d: %v, want about %v", i, wait, want)
			}
			if wait == want && want < time.Minute {
				exact++
			}
			if last = s.at; s.attempt != i+2 {
				t.Errorf("attempt %d, want %d", s.attempt, i+2)
			}
		}
		if exact > 2 {
			t.Errorf("%d delays have no jitter", exact)
		}
	})
}

func TestRetryAfterIsHonoredUpToOneHour(t *testing.T) {
	for name, c := range map[string]struct {
		said, want time.Duration
		status     int
	}{
		"longer than the backoff":  {20 * time.Minute, 20 * time.Minute, 503},
		"too long":                 {48 * time.Hour, time.Hour, 429},
		"shorter than the backoff": {time.Millisecond, time.Second, 503},
	} {
		t.Run(name, func(t *testing.T) {
			p := quickPolicy()
			p.Backoff, p.MaxBackoff, p.MaxAge = time.Second, time.Second, 1000*time.Hour
			withFakeClock(t, p, func(t *testing.T, b *testQueue, u *upstream) {
				u.setAnswer(func(_ *queue.Message, attempt int) (queue.Answer, error) {
					if attempt > 1 {
						return queue.Answer{Status: 200}, nil
					}
					return queue.Answer{Status: c.status, RetryAfter: c.said}, nil
				})
				b.accept(t, "a")
				first := u.next(t)
				synctest.Wait()
				if s := b.Status("svc"); s.NextAttempt.Sub(first.at) < c.want*3/4 || s.LastError != fmt.Sprint("status ", c.status) {
					t.Errorf("status %+v", s)
				}
				if c.said > time.Second {
					b.accept(t, "b") // a new message does not end the pause
				}
				if wait := u.next(t).at.Sub(first.at); wait < c.want*3/4 || c.said > time.Second && wait < c.want || wait > c.want*5/4 {
					t.Errorf("waited for %v, want %v", wait, c.want)
				}
			})
		})
	}
}

// A message becomes a dead letter at its maximum age, for any cause of the delay.
func TestMessagesExpireAtMaxAge(t *testing.T) {
	for name, answer := range map[string]func(*queue.Message, int) (queue.Answer, error){
		"while it is delayed": failToConnect,
		"while a Retry-After applies": func(*queue.Message, int) (queue.Answer, error) {
			return queue.Answer{Status: 503, RetryAfter: time.Hour}, nil
		},
		"while the breaker is open": func(*queue.Message, int) (queue.Answer, error) {
			return queue.Answer{}, &queue.NotAdmitted{RetryAt: time.Now().Add(time.Hour), Reason: "open"}
		},
		"while the breaker is open for an unknown time": func(*queue.Message, int) (queue.Answer, error) {
			return queue.Answer{}, &queue.NotAdmitted{Reason: "open"}
		},
	} {
		for _, ordered := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ordered %v", name, ordered), func(t *testing.T) {
				p := slowPolicy()
				p.MaxAge, p.Ordered = 10*time.Minute, ordered
				withFakeClock(t, p, func(t *testing.T, b *testQueue, u *upstream) {
					u.setAnswer(answer)
					b.accept(t, "a")
					time.Sleep(10*time.Minute - time.Second)
					b.accept(t, "b")
					b.wantCounts(t, 2, 0)
					time.Sleep(2 * time.Second)
					synctest.Wait()
					// An unordered queue checks a delayed message only when it may send again.
					if dead := b.list(t, queue.StateDead); (ordered || u.count("b") > 0 || u.count("a") == 0) &&
						(len(dead) != 1 || dead[0].Path != "/svc/a" || dead[0].Cause != "expired") {
						t.Errorf("dead: %+v", dead)
					}
					time.Sleep(2 * time.Hour)
					b.wantCounts(t, 0, 2)
				})
			})
		}
	}
}

func TestNoDeliveryBeforeBreakerAdmits(t *testing.T) {
	withFakeClock(t, quickPolicy(), func(t *testing.T, b *testQueue, u *upstream) {
		var asked atomic.Int32
		until := time.Now().Add(time.Minute)
		u.setAnswer(func(*queue.Message, int) (queue.Answer, error) {
			if asked.Add(1); time.Now().Before(until) {
				return queue.Answer{}, &queue.NotAdmitted{RetryAt: until, Reason: "open"}
			}
			return queue.Answer{Status: 200}, nil
		})
		b.accept(t, "a", "b")
		s := u.next(t)
		if s.at.Before(until) || s.attempt != 1 || asked.Load() > 3 {
			t.Errorf("sent after %v, attempt %d, asked %d times", until.Sub(s.at), s.attempt, asked.Load())
		}
	})
}

// A breaker that refuses with a time in the past must not be polled in a loop.
func TestRefusingBreakerIsNotPolledInALoop(t *testing.T) {
	for name, at := range map[string]time.Duration{"in the past": -time.Second, "unknown": 0} {
		t.Run(name, func(t *testing.T) {
			withFakeClock(t, quickPolicy(), func(t *testing.T, b *testQueue, u *upstream) {
				asked := make(chan bool, 1000)
				u.setAnswer(func(*queue.Message, int) (queue.Answer, error) {
					asked <- true
					refused := &queue.NotAdmitted{Reason: "open"}
					if at != 0 {
						refused.RetryAt = time.Now().Add(at)
					}
					return queue.Answer{}, refused
				})
				b.accept(t, "a")
				time.Sleep(10 * time.Second)
				if n := len(asked); n < 9 || n > 13 {
					t.Errorf("the breaker was called %d times in 10s", n)
				}
				b.wantCounts(t, 1, 0)
			})
		})
	}
}

// The breaker may close after it refused, before the worker handles the refusal.
func TestRecoveryDuringRefusalIsNotLost(t *testing.T) {
	withFakeClock(t, quickPolicy(), func(t *testing.T, b *testQueue, u *upstream) {
		refused := false
		u.setAnswer(func(*queue.Message, int) (queue.Answer, error) {
			if refused {
				return queue.Answer{Status: 200}, nil
			}
			refused = true
			b.recover()
			synctest.Wait() // the worker has received the event
			return queue.Answer{}, &queue.NotAdmitted{RetryAt: time.Now().Add(time.Hour), Reason: "open"}
		})
		began := time.Now()
		b.accept(t, "a")
		if waited := u.next(t).at.Sub(began); waited > time.Second {
			t.Errorf("sent after %v", waited)
		}
	})
}

func TestEventsThatEndThePause(t *testing.T) {
	for name, c := range map[string]struct {
		event  func(t *testing.T, b *testQueue)
		atOnce bool
	}{
		"recovery": {func(_ *testing.T, b *testQueue) { b.recover() }, true},
		"other recovery": {func(_ *testing.T, b *testQueue) {
			b.bus.Publish(events.StateChanged{Service: "other", To: events.Closed})
		}, false},
		"opening":       {func(_ *testing.T, b *testQueue) { b.bus.Publish(events.StateChanged{Service: "svc", To: events.Open}) }, false},
		"new message":   {func(t *testing.T, b *testQueue) { b.accept(t, "b") }, true},
		"retry":         {func(t *testing.T, b *testQueue) { _, _ = b.Retry(t.Context(), b.list(t, queue.StateWaiting)[0].ID) }, true},
		"nothing":       {func(*testing.T, *testQueue) {}, false},
		"configuration": {func(_ *testing.T, b *testQueue) { b.Configure("svc", slowPolicy()) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			withFakeClock(t, slowPolicy(), func(t *testing.T, b *testQueue, u *upstream) {
				u.setAnswer(failToConnect)
				b.accept(t, "a")
				began := u.next(t).at
				synctest.Wait()
				u.setAnswer(nil)
				c.event(t, b)
				if waited := u.next(t).at.Sub(began); waited < time.Minute != c.atOnce {
					t.Errorf("sent after %v", waited)
				}
			})
		})
	}
}

// A recovery ends the pause that a dead letter caused.
func TestRecoveryEndsPauseAfterDeadLetter(t *testing.T) {
	p := slowPolicy()
	p.MaxAttempts = 1
	withFakeClock(t, p, func(t *testing.T, b *testQueue, u *upstream) {
		u.setAnswer(failToConnect)
		b.accept(t, "a")
		began := u.next(t).at
		u.setAnswer(nil)
		synctest.Wait()
		if err := b.Accept(t.Context(), "svc", message("b")); err != nil { // ends the pause, as every new message does
			t.Fatal(err)
		}
		u.next(t)
		u.setAnswer(failToConnect)
		b.accept(t, "c")
		u.next(t)
		synctest.Wait()
		u.setAnswer(nil)
		b.store.Add(t.Context(), "svc", nil) // found at the next read, and does not end the pause
		b.recover()
		synctest.Wait()
		if waited := time.Since(began); waited > time.Minute {
			t.Errorf("after %v", waited)
		}
		if n := len(b.list(t, queue.StateDead)); n != 3 { // a, c and the unreadable one
			t.Errorf("%d are dead", n)
		}
	})
}

// After ten consecutive failures new messages no longer end the pause.
func TestNewMessagesEndPauseForTenFailures(t *testing.T) {
	withFakeClock(t, slowPolicy(), func(t *testing.T, b *testQueue, u *upstream) {
		u.setAnswer(failToConnect)
		for range 15 {
			b.accept(t, "x")
			synctest.Wait()
		}
		if n := len(u.bodies()); n != 10 {
			t.Errorf("%d attempts, want 10", n)
		}
		b.recover()
		synctest.Wait()
		if n := len(u.bodies()); n != 11 {
			t.Errorf("%d attempts after a recovery, want 11", n)
		}
	})
}

// In an unordered queue new messages must not use up the attempts of a failed message.
func TestNewMessagesDoNotRetryFailedOnesInUnorderedQueue(t *testing.T) {
	p := slowPolicy()
	p.Ordered = false
	withFakeClock(t, p, func(t *testing.T, b *testQueue, u *upstream) {
		u.setAnswer(func(m *queue.Message, _ int) (queue.Answer, error) {
			if string(m.Body) == "poison" {
				return queue.Answer{Status: 500}, nil
			}
			return queue.Answer{Status: 200}, nil
		})
		b.accept(t, "poison")
		synctest.Wait()
		for i := range 30 {
			b.accept(t, fmt.Sprint(i))
			synctest.Wait()
		}
		if n := u.count("poison"); n != 1 {
			t.Errorf("%d attempts of the failed message within one backoff", n)
		}
		if n := len(u.bodies()) - u.count("poison"); n != 30 {
			t.Errorf("%d other messages were sent", n)
		}
	})
}

func TestDelayedMessagesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		u.setAnswer(failToConnect)
		p := slowPolicy()
		p.Ordered, p.MaxAge = false, 1000*time.Hour
		b := openStopped(t, "", u)
		b.Configure("svc", p)
		all := sequence(0, 1200)
		b.accept(t, all...)
		last := b.list(t, queue.StateWaiting)[len(all)-1].ID
		b.run(t)
		defer b.stop()
		for _, body := range all[:1000] {
			if got := u.next(t).body; got != body {
				t.Fatalf("%s was tried, want %s", got, body)
			}
			synctest.Wait()
			if _, err := b.Retry(t.Context(), last); err != nil { // this ends the pause, and the message is not next
				t.Fatal(err)
			}
		}
		for range 50 {
			if body := u.next(t).body; u.count(body) < 2 {
				t.Fatal("another message was sent while 1000 were delayed")
			}
		}
	})
}

// After the clock was set back, the stored time of the next attempt may be far away.
func TestStoredDelayIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		b := openStopped(t, "", u)
		p := quickPolicy()
		p.MaxAge = 100 * time.Hour
		b.Configure("svc", p)
		b.accept(t, "a")
		if err := b.store.SetDeliveryState("svc", 1, []byte(`{"attempts":1,"not_before":"`+time.Now().Add(48*time.Hour).Format(time.RFC3339)+`"}`)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		b.run(t)
		defer b.stop()
		if s := u.next(t); s.at.Sub(start) > 2*time.Hour {
			t.Errorf("sent after %v", s.at.Sub(start))
		}
	})
}

func TestLastAttemptIsNotRetried(t *testing.T) {
	p := quickPolicy()
	p.MaxAttempts = 2
	u := newUpstream()
	u.setAnswer(answerWith(500))
	b := open(t, "", u, p)
	b.accept(t, "a")
	if s := b.waitFor(t, "it is dead", func(s events.QueueStatus) bool { return s.Dead == 1 }); s.Retried != 1 {
		t.Errorf("%d attempts were retried, want 1", s.Retried)
	}
}
