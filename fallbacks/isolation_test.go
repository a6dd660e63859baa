package fallbacks_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	"cbproxy/internal/events"
)

// blocking is a strategy that ignores its context, and everything that only inline strategies may be.
type blocking struct {
	release chan struct{}
	request chan *fallbacks.Request
}

func (b *blocking) Answer(_ context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	b.request <- r
	<-b.release
	return &fallbacks.Answer{Status: 200}, nil
}

func (b *blocking) TimeLimit() time.Duration          { return time.Second }
func (b *blocking) NonBlocking()                      {}
func (b *blocking) ConstantAnswer() *fallbacks.Answer { return &fallbacks.Answer{Status: 200} }
func (b *blocking) Intercept(string) (string, bool)   { return "", true }
func (b *blocking) BodyLimit() int64                  { return 100 }
func (b *blocking) CacheStats() fallbacks.CacheStats  { return fallbacks.CacheStats{Hits: 1} }
func (b *blocking) BreakerState() events.State        { return events.Open }

func (b *blocking) Record(*fallbacks.Request, int, http.Header) fallbacks.Recorder {
	panic("called")
}

func TestStrategiesAreIsolatedUnlessInline(t *testing.T) {
	const maxRunning = 256
	b := &blocking{make(chan struct{}), make(chan *fallbacks.Request, maxRunning)}
	name := uniqueName("blocking")
	registerStrategy(name, b)
	synctest.Test(t, func(t *testing.T) {
		b.release, b.request = make(chan struct{}), make(chan *fallbacks.Request, maxRunning)
		c := startChain(t, name)
		if _, ok := c.Constant(); ok {
			t.Error("Constant is used")
		}
		if _, ok := c.Intercept("GET"); ok {
			t.Error("Interceptor is used")
		}
		if _, ok := c.BreakerState(); ok || c.CacheStats().Hits > 0 || c.Record(&fallbacktest.Client{}, 200, nil) != nil {
			t.Error("BreakerReporter, CacheReporter or Observer is used")
		}
		client := &fallbacktest.Client{Req: fallbacks.Request{Header: http.Header{"A": {"b"}}}, Content: []byte("body")}
		start := time.Now()
		_, _, err := c.Answer(t.Context(), client, events.ReasonOpen)
		if err == nil || !strings.Contains(err.Error(), "no answer within its time limit") || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		r := <-b.request
		r.Header["A"][0], r.Body[0] = "changed", 'B'
		if client.Req.Header.Get("A") != "b" || string(client.Content) != "body" {
			t.Error("the strategy got the client's memory")
		}
		var wg sync.WaitGroup
		for range maxRunning - 1 { // the first call is still running
			wg.Go(func() { _, _, _ = c.Answer(t.Context(), client, events.ReasonOpen) })
		}
		wg.Wait()
		if _, _, err := c.Answer(t.Context(), client, events.ReasonOpen); err == nil || !strings.Contains(err.Error(), "too many calls") {
			t.Errorf("call %d: %v", maxRunning+1, err)
		}
		close(b.release)
		synctest.Wait()
		if _, _, err := c.Answer(t.Context(), client, events.ReasonOpen); err != nil {
			t.Errorf("after the calls have returned: %v", err)
		}
	})
}

// A strategy that ends its goroutine has no answer: the next one is tried at once.
func TestStrategyThatEndsItsGoroutine(t *testing.T) {
	exits := register("exits", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) {
		runtime.Goexit()
		return nil, errors.New("not reached")
	})
	next := register("next", answering(203))
	synctest.Test(t, func(t *testing.T) {
		c := startChain(t, exits, next)
		start := time.Now()
		for range 1000 { // more than may run at once
			a, name, err := c.Answer(t.Context(), &fallbacktest.Client{}, events.ReasonOpen)
			if err != nil || name != next || a.Status != 203 {
				t.Fatalf("%+v from %q, %v", a, name, err)
			}
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("took %v", took)
		}
		_, _, err := startChain(t, exits).Answer(t.Context(), &fallbacktest.Client{}, events.ReasonOpen)
		if err == nil || !strings.Contains(err.Error(), "has ended its goroutine") {
			t.Errorf("got %v", err)
		}
	})
}
