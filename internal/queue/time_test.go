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

// inBubble runs test with a queue in memory and a clock of its own.
func inBubble(t *testing.T, p queue.Policy, test func(t *testing.T, b *bench, u *upstream)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		b := open(t, "", u, p)
		defer b.stop()
		synctest.Wait() // or a message may be sent before it has arrived, which hurries it
		test(t, b, u)
	})
}

func TestWaitsGrowWithFailuresUpToTheirBound(t *testing.T) {
	p := quick()
	p.Backoff, p.MaxBackoff = time.Second, time.Minute
	inBubble(t, p, func(t *testing.T, b *bench, u *upstream) {
		u.behave(isDown)
		b.accept(t, "a")
		last := u.next(t).at
		exact := 0
		for i := range 12 {
			s := u.next(t)
			wait, want := s.at.Sub(last), min(time.Second<<i, time.Minute)
			if wait < want*3/4 || wait > min(want*5/4, time.Minute)+time.Millisecond {
				t.Errorf("wait %d: %v, want about %v", i, wait, want)
			}
			if wait == want && want < time.Minute {
				exact++
			}
			if last = s.at; s.attempt != i+2 {
				t.Errorf("attempt %d, want %d", s.attempt, i+2)
			}
		}
		if exact > 2 {
			t.Errorf("%d waits have no jitter", exact)
		}
	})
}

func TestRetryAfterIsHonouredUpToAnHour(t *testing.T) {
	for name, c := range map[string]struct {
		said, want time.Duration
		status     int
	}{
		"longer than the backoff":  {20 * time.Minute, 20 * time.Minute, 503},
		"too long":                 {48 * time.Hour, time.Hour, 429},
		"shorter than the backoff": {time.Millisecond, time.Second, 503},
	} {
		t.Run(name, func(t *testing.T) {
			p := quick()
			p.Backoff, p.MaxBackoff, p.MaxAge = time.Second, time.Second, 1000*time.Hour
			inBubble(t, p, func(t *testing.T, b *bench, u *upstream) {
				u.behave(func(_ *queue.Message, attempt int) (queue.Answer, error) {
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
					b.accept(t, "b") // who comes does not hurry it
				}
				if wait := u.next(t).at.Sub(first.at); wait < c.want*3/4 || c.said > time.Second && wait < c.want || wait > c.want*5/4 {
					t.Errorf("waited for %v, want %v", wait, c.want)
				}
			})
		})
	}
}

// Whatever it waits for, a message is a dead letter once it is too old.
func TestMaxAgeIsKept(t *testing.T) {
	for name, answer := range map[string]func(*queue.Message, int) (queue.Answer, error){
		"while it rests": isDown,
		"while the upstream wants to be left alone": func(*queue.Message, int) (queue.Answer, error) {
			return queue.Answer{Status: 503, RetryAfter: time.Hour}, nil
		},
		"while the breaker is open": func(*queue.Message, int) (queue.Answer, error) {
			return queue.Answer{}, &queue.NotAdmitted{RetryAt: time.Now().Add(time.Hour), Reason: "open"}
		},
		"while the breaker is open without end": func(*queue.Message, int) (queue.Answer, error) {
			return queue.Answer{}, &queue.NotAdmitted{Reason: "open"}
		},
	} {
		for _, ordered := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ordered %v", name, ordered), func(t *testing.T) {
				p := slow()
				p.MaxAge, p.Ordered = 10*time.Minute, ordered
				inBubble(t, p, func(t *testing.T, b *bench, u *upstream) {
					u.behave(answer)
					b.accept(t, "a")
					time.Sleep(10*time.Minute - time.Second)
					b.accept(t, "b")
					b.atRest(t, 2, 0)
					time.Sleep(2 * time.Second)
					synctest.Wait()
					// Where others may pass, one that rests is looked at when the upstream may be asked again.
					if dead := b.list(t, queue.StateDead); (ordered || u.count("b") > 0 || u.count("a") == 0) &&
						(len(dead) != 1 || dead[0].Path != "/svc/a" || dead[0].Cause != "expired") {
						t.Errorf("dead: %+v", dead)
					}
					time.Sleep(2 * time.Hour)
					b.atRest(t, 0, 2)
				})
			})
		}
	}
}

func TestNothingIsSentBeforeTheBreakerAdmits(t *testing.T) {
	inBubble(t, quick(), func(t *testing.T, b *bench, u *upstream) {
		var asked atomic.Int32
		until := time.Now().Add(time.Minute)
		u.behave(func(*queue.Message, int) (queue.Answer, error) {
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

// A breaker that names a moment that has passed must not be asked in a loop.
func TestBreakerThatRefusesAgainAndAgainIsNotAskedInALoop(t *testing.T) {
	for name, at := range map[string]time.Duration{"in the past": -time.Second, "unknown": 0} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, quick(), func(t *testing.T, b *bench, u *upstream) {
				asked := make(chan bool, 1000)
				u.behave(func(*queue.Message, int) (queue.Answer, error) {
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
					t.Errorf("asked %d times in 10s", n)
				}
				b.atRest(t, 1, 0)
			})
		})
	}
}

// The breaker may change its mind while its refusal is on the way.
func TestAdmissionDuringARefusalIsNotLost(t *testing.T) {
	inBubble(t, quick(), func(t *testing.T, b *bench, u *upstream) {
		refused := false
		u.behave(func(*queue.Message, int) (queue.Answer, error) {
			if refused {
				return queue.Answer{Status: 200}, nil
			}
			refused = true
			b.recover()
			synctest.Wait() // it is heard
			return queue.Answer{}, &queue.NotAdmitted{RetryAt: time.Now().Add(time.Hour), Reason: "open"}
		})
		began := time.Now()
		b.accept(t, "a")
		if waited := u.next(t).at.Sub(began); waited > time.Second {
			t.Errorf("sent after %v", waited)
		}
	})
}

func TestWhatHurriesTheLine(t *testing.T) {
	for name, c := range map[string]struct {
		hurry func(t *testing.T, b *bench)
		now   bool
	}{
		"recovery":        {func(_ *testing.T, b *bench) { b.recover() }, true},
		"another's":       {func(_ *testing.T, b *bench) { b.bus.Publish(events.StateChanged{Service: "other", To: events.Closed}) }, false},
		"an opening":      {func(_ *testing.T, b *bench) { b.bus.Publish(events.StateChanged{Service: "svc", To: events.Open}) }, false},
		"an arrival":      {func(t *testing.T, b *bench) { b.accept(t, "b") }, true},
		"an operator":     {func(t *testing.T, b *bench) { _, _ = b.Retry(t.Context(), b.list(t, queue.StateWaiting)[0].ID) }, true},
		"nothing":         {func(*testing.T, *bench) {}, false},
		"a configuration": {func(_ *testing.T, b *bench) { b.Configure("svc", slow()) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, slow(), func(t *testing.T, b *bench, u *upstream) {
				u.behave(isDown)
				b.accept(t, "a")
				began := u.next(t).at
				synctest.Wait()
				u.behave(nil)
				c.hurry(t, b)
				if waited := u.next(t).at.Sub(began); waited < time.Minute != c.now {
					t.Errorf("sent after %v", waited)
				}
			})
		})
	}
}

// What is dead by its attempts leaves a pause behind that recovery ends.
func TestRecoveryEndsThePauseAfterADeath(t *testing.T) {
	p := slow()
	p.MaxAttempts = 1
	inBubble(t, p, func(t *testing.T, b *bench, u *upstream) {
		u.behave(isDown)
		b.accept(t, "a")
		began := u.next(t).at
		u.behave(nil)
		synctest.Wait()
		if err := b.Accept(t.Context(), "svc", message("b")); err != nil { // hurries, as any does
			t.Fatal(err)
		}
		u.next(t)
		u.behave(isDown)
		b.accept(t, "c")
		u.next(t)
		synctest.Wait()
		u.behave(nil)
		b.store.Add(t.Context(), "svc", nil) // is seen when the line looks, and hurries nothing
		b.recover()
		synctest.Wait()
		if waited := time.Since(began); waited > time.Minute {
			t.Errorf("after %v", waited)
		}
		if n := len(b.list(t, queue.StateDead)); n != 3 { // a and c, and what can't be read
			t.Errorf("%d are dead", n)
		}
	})
}

// After ten failures in a row whoever comes waits like the rest.
func TestArrivalsHurryTenFailuresInARow(t *testing.T) {
	inBubble(t, slow(), func(t *testing.T, b *bench, u *upstream) {
		u.behave(isDown)
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

// Where others may pass, arrivals must not spend the attempts of one that always fails.
func TestArrivalsDoNotHurryWhatOthersMayPass(t *testing.T) {
	p := slow()
	p.Ordered = false
	inBubble(t, p, func(t *testing.T, b *bench, u *upstream) {
		u.behave(func(m *queue.Message, _ int) (queue.Answer, error) {
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
			t.Errorf("%d attempts at what fails, within one wait", n)
		}
		if n := len(u.bodies()) - u.count("poison"); n != 30 {
			t.Errorf("%d others were sent", n)
		}
	})
}

func TestOnlySoManyRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		u.behave(isDown)
		p := slow()
		p.Ordered, p.MaxAge = false, 1000*time.Hour
		b := opened(t, "", u)
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
			if _, err := b.Retry(t.Context(), last); err != nil { // which ends the pause, and is not its turn
				t.Fatal(err)
			}
		}
		for range 50 {
			if body := u.next(t).body; u.count(body) < 2 {
				t.Fatal("another message was tried while 1000 rested")
			}
		}
	})
}
