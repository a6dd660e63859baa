package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func change(n int) StateChanged { return StateChanged{Service: fmt.Sprint(n)} }

func TestSubscriptionsHaveTheSameOrder(t *testing.T) {
	var bus Bus
	const events, subscribers = 500, 5
	subs := make([]*Subscription, subscribers)
	for i := range subs {
		subs[i] = bus.Subscribe(events)
	}
	var publishing sync.WaitGroup
	for p := range 4 { // the order of concurrent events is not determined, but the same for all
		publishing.Go(func() {
			for i := range events / 4 {
				bus.Publish(change(p*1000 + i))
			}
		})
	}
	publishing.Wait()
	var first []string
	for i, s := range subs {
		var seen []string
		for range events {
			e, missed, err := s.Next(t.Context())
			if err != nil || missed > 0 {
				t.Fatalf("Next: %v, missed %d", err, missed)
			}
			seen = append(seen, e.(StateChanged).Service)
		}
		if i == 0 {
			first = seen
		} else if fmt.Sprint(seen) != fmt.Sprint(first) {
			t.Errorf("subscription %d has another order", i)
		}
	}
}

func TestSlowSubscriberMissesEvents(t *testing.T) {
	var bus Bus
	s := bus.Subscribe(3)
	for i := range 8 {
		bus.Publish(change(i)) // never blocks
	}
	e, missed, err := s.Next(t.Context())
	if err != nil || missed != 6 || e.(StateChanged).Service != "6" {
		t.Fatalf("got %v, missed %d, %v; want event 6 after 6 missed", e, missed, err)
	}
	if e, missed, _ := s.Next(t.Context()); missed != 0 || e.(StateChanged).Service != "7" {
		t.Errorf("got %v, missed %d; want event 7", e, missed)
	}
}

func TestNextWaitsForPublishCloseAndContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bus Bus
		s := bus.Subscribe(1)
		go func() {
			time.Sleep(time.Second)
			bus.Publish(change(1))
		}()
		if e, _, err := s.Next(t.Context()); err != nil || e.(StateChanged).Service != "1" {
			t.Fatalf("got %v, %v", e, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after ctx: %v", err)
		}
		bus.Publish(change(2))
		s.Close()
		s.Close()
		if e, _, err := s.Next(t.Context()); err != nil || e.(StateChanged).Service != "2" {
			t.Errorf("queued before Close: %v, %v", e, err)
		}
		if _, _, err := s.Next(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		bus.Publish(change(3)) // without a subscription
	})
}
