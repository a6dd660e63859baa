package service_test

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	"cbproxy/internal/message"
	"cbproxy/internal/service"
	"cbproxy/routes"
)

// closeCounter is a strategy that counts how often it is closed.
type closeCounter struct{ closed atomic.Int64 }

var closeCounters struct {
	sync.Mutex
	all []*closeCounter
}

func (c *closeCounter) Answer(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) {
	return nil, nil
}

func (c *closeCounter) Close() error {
	c.closed.Add(1)
	return nil
}

func init() {
	fallbacks.Register("test-close-counter", fallbacks.Factory[struct{}]{New: func(*struct{}, fallbacks.Env) (fallbacks.Strategy, error) {
		c := new(closeCounter)
		closeCounters.Lock()
		defer closeCounters.Unlock()
		closeCounters.all = append(closeCounters.all, c)
		return c, nil
	}})
}

type noopObservers struct{}

func (noopObservers) Service(string) events.Observer  { return noopObservers{} }
func (noopObservers) Forget(string)                   {}
func (noopObservers) Begin()                          {}
func (noopObservers) Failed(events.ErrorType, int)    {}
func (noopObservers) Probed(bool)                     {}
func (noopObservers) HealthChecked(bool)              {}
func (noopObservers) Hedged(bool)                     {}
func (noopObservers) FailedLocally(events.LocalError) {}
func (noopObservers) End(*events.Outcome)             {}

// TestReplacedSnapshotIsClosedOnce checks that each snapshot closes its fallback strategies exactly once, whatever requests
// acquire and release it while it is replaced.
func TestReplacedSnapshotIsClosedOnce(t *testing.T) {
	s := service.NewManager(service.Config{Bus: new(events.Bus), Observers: noopObservers{}, Logger: slog.New(slog.DiscardHandler), Via: message.NewVia("test")})
	loader := routes.Loader{Path: "test.yaml", Strategies: fallbacks.Options()}
	var users sync.WaitGroup
	stop := make(chan struct{})
	for range 4 { // requests that do nothing but acquire and release a snapshot
		users.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.Acquire().Release()
				}
			}
		})
	}
	for i := range 3000 {
		c, err := loader.Parse([]byte("routes: {svc: {prefix: /svc, upstream: 'http://127.0.0.1:1', timeout: " + strconv.Itoa(i%9+1) + "}}\nfallbacks: {svc: {try: [test-close-counter]}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	users.Wait()
	s.Close()
	closeCounters.Lock()
	defer closeCounters.Unlock()
	if len(closeCounters.all) != 3000 {
		t.Errorf("%d strategies were made, want 3000", len(closeCounters.all))
	}
	for i, c := range closeCounters.all {
		if n := c.closed.Load(); n != 1 {
			t.Errorf("strategy %d was closed %d times", i, n)
		}
	}
}
