package breaker

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// Whatever many goroutines do to a breaker at once, its events tell one story: each begins
// where the one before ended.
func TestConcurrentCallsTellOneStory(t *testing.T) {
	var bus events.Bus
	sub := bus.Subscribe(1 << 20)
	b := New("svc", Policy{FailMax: 3, RecoveryTimeout: time.Millisecond, HalfOpenRequests: 2}, bus.Publish)
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for range 3000 {
				call, err := b.Allow()
				if err != nil {
					time.Sleep(time.Microsecond) // let the clock run
					continue
				}
				switch random.IntN(10) {
				case 0:
					call.Cancel()
				case 1, 2, 3, 4, 5:
					call.Failure(&events.Failure{Type: events.ErrorStatus}, 0)
				default:
					call.Success(0)
				}
			}
		})
	}
	workers.Go(func() {
		for i := range 300 {
			switch i % 5 {
			case 0:
				b.Force(events.Open, time.Millisecond, "")
			case 1:
				b.Force(events.HalfOpen, 0, "")
			case 2:
				b.Force(events.Closed, time.Millisecond, "")
			case 3:
				b.Release("")
			case 4:
				b.SetPolicy(Policy{FailMax: 1 + i%3, RecoveryTimeout: time.Duration(1+i%2) * time.Millisecond, HalfOpenRequests: 1 + i%2})
			}
			_ = b.Status()
		}
	})
	workers.Wait()
	b.Close()
	sub.Close()
	state, changes := events.Closed, [len(events.States)]uint64{}
	for {
		e, missed, err := sub.Next(t.Context())
		if err != nil {
			break
		}
		if missed > 0 {
			t.Fatalf("missed %d events", missed)
		}
		if c, ok := e.(events.StateChanged); ok {
			if c.From != state || c.To == c.From {
				t.Fatalf("%v to %v (%s) while the state was %v", c.From, c.To, c.Cause, state)
			}
			state = c.To
			changes[c.To]++
		}
	}
	for _, s := range events.States {
		if b.Changes(s) != changes[s] {
			t.Errorf("%d changes to %v are counted, %d were published", b.Changes(s), s, changes[s])
		}
	}
	if changes[events.Open] < 10 {
		t.Errorf("opened only %d times", changes[events.Open])
	}
}

// Nobody asks, and yet the state moves on and is told.
func TestOpeningEndsByTheClockAlone(t *testing.T) {
	var bus events.Bus
	sub := bus.Subscribe(10)
	defer sub.Close()
	b := New("svc", Policy{FailMax: 1, RecoveryTimeout: 5 * time.Millisecond, HalfOpenRequests: 1}, bus.Publish)
	defer b.Close()
	call, err := b.Allow()
	if err != nil {
		t.Fatal(err)
	}
	call.Failure(&events.Failure{Type: events.ErrorTimeout, Detail: "slow"}, 0)
	for _, want := range []events.State{events.Open, events.HalfOpen} {
		e, _, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := e.(events.StateChanged)
		if c.To != want {
			t.Fatalf("changed to %v, want %v", c.To, want)
		}
		if want == events.Open && (c.Failure == nil || c.Failure.Detail != "slow" || c.Counts.ConsecutiveFailures != 1 || c.Until.IsZero()) {
			t.Errorf("the opening does not tell its cause: %+v", c)
		}
	}
}
