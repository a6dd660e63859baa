package queue_test

import (
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

// failsFor answers 500 to messages whose bodies begin with a letter, and 200 to others.
func failsFor(prefix string) func(*queue.Message, int) (queue.Answer, error) {
	return func(m *queue.Message, _ int) (queue.Answer, error) {
		if strings.HasPrefix(string(m.Body), prefix) {
			return queue.Answer{Status: 500}, nil
		}
		return queue.Answer{Status: 200}, nil
	}
}

// usual is a policy with the waits of the defaults.
func usual() queue.Policy {
	p := quick()
	p.Backoff, p.MaxBackoff, p.MaxAge = time.Second, 5*time.Minute, 24*time.Hour
	return p
}

// without returns the bodies that do not begin with a letter.
func without(prefix string, bodies []string) []string {
	return slices.DeleteFunc(slices.Clone(bodies), func(b string) bool { return strings.HasPrefix(b, prefix) })
}

// A message that fails while those behind it do not blocks them for a few attempts only.
func TestPoisonIsSetAside(t *testing.T) {
	for name, c := range map[string]struct {
		bodies []string
		within time.Duration
		answer func(*queue.Message, int) (queue.Answer, error)
	}{
		"at the head":       {append([]string{"p"}, sequence(0, 5)...), 2 * time.Second, failsFor("p")},
		"in the middle":     {append(append(sequence(0, 5), "p"), sequence(5, 10)...), 2 * time.Second, failsFor("p")},
		"several at once":   {append([]string{"p1", "p2", "p3"}, sequence(0, 5)...), 40 * time.Second, failsFor("p")},
		"several apart":     {[]string{"p1", "0", "p2", "1", "p3", "2"}, 10 * time.Second, failsFor("p")},
		"with one behind":   {[]string{"p", "0"}, 2 * time.Second, failsFor("p")},
		"with others apart": {[]string{"0", "p1", "1", "p2"}, 5 * time.Second, failsFor("p")},
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
				u.behave(c.answer)
				b := opened(t, "", u)
				b.Configure("svc", usual())
				b.accept(t, c.bodies...)
				b.run(t)
				defer b.stop()
				good := without("p", c.bodies)
				poison := len(c.bodies) - len(good)
				time.Sleep(c.within)
				synctest.Wait()
				equal(t, without("p", u.bodies()), good)
				b.atRest(t, poison, 0)
				time.Sleep(time.Hour)
				synctest.Wait()
				for _, i := range b.list(t, queue.StateWaiting) {
					if name != "with others apart" && !i.Aside || i.Attempts < 5 {
						t.Errorf("%+v", i)
					}
				}
				u.behave(nil)
				time.Sleep(time.Hour)
				synctest.Wait()
				b.atRest(t, 0, 0)
			})
		})
	}
}

// Nothing that comes is queued for the sake of what is set aside.
func TestWhatIsSetAsideIsNotWaitedFor(t *testing.T) {
	inBubble(t, usual(), func(t *testing.T, b *bench, u *upstream) {
		u.behave(failsFor("p"))
		b.accept(t, "p", "a")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if _, waiting := b.Waiting("svc"); waiting {
			t.Error("others wait for it")
		}
		b.accept(t, "b", "c") // are sent at once although it rests
		synctest.Wait()
		equal(t, without("p", u.bodies()), []string{"a", "b", "c"})
		if s := b.Status("svc"); s.Waiting != 1 {
			t.Errorf("%+v", s)
		}
		id := b.list(t, queue.StateWaiting)[0].ID
		if _, err := b.Drop(id); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.atRest(t, 0, 0)
		u.behave(isDown)
		b.accept(t, "d")
		synctest.Wait()
		if _, waiting := b.Waiting("svc"); !waiting {
			t.Error("nothing waits for the one that can't be sent")
		}
	})
}

// A Retry-After that only one message gets, while clients' requests succeed, is for that one alone.
func TestRetryAfterOfOneMessage(t *testing.T) {
	for name, c := range map[string]struct {
		status, all int // all: how many get it
		clients     bool
		sent        int // of what comes, within a minute
	}{
		"503, and clients succeed":       {503, 1, true, 3},
		"503, and nobody else is served": {503, 1, false, 0},
		"503 for all":                    {503, 4, true, 1},
		"429, and clients succeed":       {429, 1, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, usual(), func(t *testing.T, b *bench, u *upstream) {
				u.behave(func(m *queue.Message, _ int) (queue.Answer, error) {
					if n := strings.Index("pabc", string(m.Body)); n < c.all {
						return queue.Answer{Status: c.status, RetryAfter: time.Hour}, nil
					}
					return queue.Answer{Status: 200}, nil
				})
				b.accept(t, "p", "a", "b", "c")
				for range 60 {
					time.Sleep(time.Second)
					if c.clients {
						u.succeed()
					}
				}
				synctest.Wait()
				if got := without("p", u.bodies()); len(got) != c.sent || c.sent > 1 && !slices.Equal(got, []string{"a", "b", "c"}) {
					t.Errorf("sent %q", got)
				}
				if n := u.count("p"); n > 3 {
					t.Errorf("the one that it is for was sent %d times", n)
				}
			})
		})
	}
}

// Arrivals find a poison that has been alone so far.
func TestPoisonThatWasAloneDoesNotBlockArrivals(t *testing.T) {
	inBubble(t, usual(), func(t *testing.T, b *bench, u *upstream) {
		u.behave(failsFor("p"))
		b.accept(t, "p")
		time.Sleep(30 * time.Minute)
		b.accept(t, "a")
		synctest.Wait()
		equal(t, without("p", u.bodies()), []string{"a"})
	})
}

// However an upstream fails, as long as it fails for all, none of its messages is taken for the cause, and
// once it works they come in their order.
func TestFailingUpstreamSetsNothingAside(t *testing.T) {
	for name, answer := range map[string]func(*queue.Message, int) (queue.Answer, error){
		"500": answers(500), "503": answers(503), "429": answers(429), "is down": isDown,
		"503 with a Retry-After": func(*queue.Message, int) (queue.Answer, error) {
			return queue.Answer{Status: 503, RetryAfter: time.Minute}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, usual(), func(t *testing.T, b *bench, u *upstream) {
				u.behave(answer)
				all := sequence(0, 40)
				b.accept(t, all[:20]...)
				time.Sleep(time.Hour)
				b.accept(t, all[20:]...)
				time.Sleep(time.Hour)
				synctest.Wait()
				if n := len(u.bodies()); n > 20*3+2*120 {
					t.Errorf("it was asked %d times in 2h", n)
				}
				for _, i := range b.list(t, queue.StateWaiting) {
					if i.Aside {
						t.Errorf("set aside: %+v", i)
					}
				}
				failed := len(u.bodies())
				u.behave(nil)
				time.Sleep(time.Hour)
				synctest.Wait()
				equal(t, u.bodies()[failed:], all)
				b.atRest(t, 0, 0)
			})
		})
	}
}

// An upstream that is back after it was down is told apart from one that was not down at all.
func TestRecoveryKeepsTheOrderOfWhatHasFailedBefore(t *testing.T) {
	inBubble(t, usual(), func(t *testing.T, b *bench, u *upstream) {
		for range 20 {
			u.behave(answers(500))
			b.accept(t, "a", "b", "c")
			time.Sleep(time.Minute)
			synctest.Wait()
			failed := len(u.bodies())
			u.behave(nil)
			b.recover()
			synctest.Wait()
			equal(t, u.bodies()[failed:], []string{"a", "b", "c"})
		}
	})
}

// The second failure that a message may have caused itself makes it a suspect, restarts or not, but not within moments.
func TestSuspectsAreToldToTheSender(t *testing.T) {
	p := usual()
	p.Backoff, p.MaxBackoff = 100*time.Millisecond, 100*time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		var suspects []bool
		u := newUpstream()
		u.behave(func(m *queue.Message, attempt int) (queue.Answer, error) {
			suspects = append(suspects, m.Suspect)
			if attempt > 2 && attempt < 20 {
				return isDown(m, attempt)
			}
			return queue.Answer{Status: 500}, nil
		})
		b := open(t, folder, u, p)
		b.accept(t, "a")
		time.Sleep(5 * time.Second)
		b.stop()
		if first := slices.Index(suspects, true); first < 6 || first > 12 {
			t.Errorf("attempt %d was the first of a suspect: %v", first+1, suspects)
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

// Restarts in between change nothing: all others come in their order, once.
func TestPoisonIsSetAsideInSpiteOfRestarts(t *testing.T) {
	folder := t.TempDir()
	u := newUpstream()
	u.behave(failsFor("p"))
	b := open(t, folder, u, quick())
	var all []string
	for i := range 30 {
		all = append(all, []string{"p", ""}[min(i%5, 1)]+fmt.Sprint(i))
	}
	for i := range all {
		b.accept(t, all[i])
		if i%3 == 0 {
			b.stop()
			b = open(t, folder, u, quick())
		}
	}
	b.until(t, "the others are delivered", func(s events.QueueStatus) bool { return s.Waiting == 6 })
	equal(t, without("p", u.bodies()), without("p", all))
	u.behave(nil)
	b.until(t, "all are delivered", empty)
	b.atRest(t, 0, 0)
	if n := len(u.bodies()); n < 30 {
		t.Errorf("%d were sent", n)
	}
}

// Where order does not matter, one that fails again and again does not make the others wait either.
func TestPoisonDoesNotPauseOthersWithoutOrder(t *testing.T) {
	p := usual()
	p.Ordered = false
	inBubble(t, p, func(t *testing.T, b *bench, u *upstream) {
		u.behave(failsFor("p"))
		b.accept(t, "p1", "p2", "p3")
		time.Sleep(2 * time.Hour) // the pause after a failure is long by now
		for i := range 10 {
			b.accept(t, fmt.Sprint(i))
			synctest.Wait()
			if n := len(without("p", u.bodies())); n != i+1 {
				t.Fatalf("%d of %d were sent at once", n, i+1)
			}
			time.Sleep(time.Minute)
		}
	})
}

// A poison for which the upstream hangs takes a share of the time only.
func TestPoisonThatHangsLeavesTimeToOthers(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		t.Run(fmt.Sprintf("ordered %v", ordered), func(t *testing.T) {
			p := usual()
			p.Ordered = ordered
			inBubble(t, p, func(t *testing.T, b *bench, u *upstream) {
				const timeout = 30 * time.Second
				var hung atomic.Int64
				u.behave(func(m *queue.Message, _ int) (queue.Answer, error) {
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
				n := len(without("p", u.bodies()))
				for i := range 3600 {
					b.accept(t, fmt.Sprint(i))
					time.Sleep(time.Second)
				}
				if share := float64(hung.Load()-was) / float64(time.Since(began)); share > 0.5 {
					t.Errorf("it took %.2f of the time", share)
				}
				if n := len(without("p", u.bodies())) - n; n < 3500 {
					t.Errorf("%d of 3600 others were delivered", n)
				}
			})
		})
	}
}
