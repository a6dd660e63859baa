package fallbacks_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	"cbproxy/internal/events"
)

// strategyFunc is a function that implements fallbacks.Strategy.
type strategyFunc func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error)

func (f strategyFunc) Answer(ctx context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	return f(ctx, r)
}

type noOptions struct{}

var registered atomic.Int64

// uniqueName returns a name for a strategy that no other test has, also if the test is repeated.
func uniqueName(name string) string { return fmt.Sprint(name, "/", registered.Add(1)) }

// register registers f under a unique name and returns the name.
func register(name string, f strategyFunc) string {
	name = uniqueName(name)
	registerStrategy(name, f)
	return name
}

func registerStrategy(name string, s fallbacks.Strategy) {
	fallbacks.Register(name, fallbacks.Factory[noOptions]{New: func(*noOptions, fallbacks.Env) (fallbacks.Strategy, error) { return s, nil }})
}

// startChain returns a started chain of strategies with default options.
func startChain(t *testing.T, try ...string) *fallbacks.Chain {
	t.Helper()
	options := map[string]any{}
	for _, name := range try {
		options[name] = fallbacks.Options()[name]()
	}
	c, err := fallbacks.NewChain(try, options, fallbacktest.Env(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(c.Close)
	return c
}

func answering(status int) strategyFunc {
	return func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) {
		return &fallbacks.Answer{Status: status}, nil
	}
}

func TestChainReturnsTheFirstAnswer(t *testing.T) {
	declines := register("declines", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) { return nil, errors.New("empty") })
	panics := register("panics", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) { panic("broken") })
	nothing := register("nothing", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) { return nil, nil })
	third, fourth := register("third", answering(203)), register("fourth", answering(204))
	a, name, err := startChain(t, declines, panics, nothing, third, fourth).Answer(t.Context(), &fallbacktest.Client{}, events.ReasonOpen)
	if err != nil || name != third || a.Status != 203 {
		t.Errorf("got %+v from %q, %v", a, name, err)
	}
	_, _, err = startChain(t, declines, panics).Answer(t.Context(), &fallbacktest.Client{}, events.ReasonOpen)
	if err == nil || !strings.Contains(err.Error(), declines+": empty") || !strings.Contains(err.Error(), panics+": panic: broken") {
		t.Errorf("error %v does not name the error of each strategy", err)
	}
}

func TestChainSanitizesAnswers(t *testing.T) {
	name := register("dirty", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) {
		return &fallbacks.Answer{Status: 200, Body: []byte("body"), Header: http.Header{
			"x-lower": {"a"}, "X-Lower": {"b"}, "X-Values": {"good", "bad\nvalue"}, "bad name": {"x"}, "Content-Length": {"999"},
			"Connection": {"close"}, "X-Fallback": {"forged"}, "X-Circuit-Breaker-State": {"closed"},
		}}, nil
	})
	a, _, err := startChain(t, name).Answer(t.Context(), &fallbacktest.Client{}, events.ReasonOpen)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(a.Header["X-Lower"])
	want := http.Header{"X-Lower": {"a", "b"}, "X-Values": {"good"}, "Content-Length": {"4"}, "Content-Type": nil}
	if !reflect.DeepEqual(a.Header, want) {
		t.Errorf("got %v, want %v", a.Header, want)
	}
	for date, want := range map[string][]string{"Mon, 02 Jan 2006 15:04:05 GMT": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "yesterday": nil} {
		name := register("with Date", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) {
			return &fallbacks.Answer{Status: 200, Header: http.Header{"Date": {date}}}, nil
		})
		a, _, err := startChain(t, name).Answer(t.Context(), &fallbacktest.Client{}, events.ReasonOpen)
		if err != nil || !reflect.DeepEqual(a.Header["Date"], want) {
			t.Errorf("Date %q: got %+v, %v", date, a, err)
		}
	}
	for _, status := range []int{0, 199, 600} {
		name := register(fmt.Sprint(status), answering(status))
		if a, _, err := startChain(t, name).Answer(t.Context(), &fallbacktest.Client{}, events.ReasonOpen); err == nil {
			t.Errorf("status %d: got %+v", status, a)
		}
	}
	for status, want := range map[int]http.Header{204: {}, 304: {}, 200: {"Content-Length": {"0"}, "Content-Type": nil}} {
		name := register(fmt.Sprint("without body ", status), answering(status))
		a, _, err := startChain(t, name).Answer(t.Context(), &fallbacktest.Client{}, events.ReasonOpen)
		if err != nil || !reflect.DeepEqual(a.Header, want) {
			t.Errorf("status %d: got %+v, %v, want %v", status, a, err, want)
		}
	}
}

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

func TestRegisterPanicsForANameInUse(t *testing.T) {
	name := register("twice", answering(200))
	if !slices.Contains(fallbacks.Names(), name) {
		t.Errorf("%s is not in %q", name, fallbacks.Names())
	}
	defer func() {
		if recover() == nil {
			t.Errorf("%s is registered twice", name)
		}
	}()
	registerStrategy(name, answering(200))
}

func TestNewChainErrors(t *testing.T) {
	fails := uniqueName("fails")
	fallbacks.Register(fails, fallbacks.Factory[noOptions]{New: func(*noOptions, fallbacks.Env) (fallbacks.Strategy, error) { return nil, errors.New("no disk") }})
	for name, want := range map[string]string{"unknown": `strategy "unknown" is not registered`, fails: "build strategy " + fails + ": no disk"} {
		if _, err := fallbacks.NewChain([]string{name}, map[string]any{name: &noOptions{}}, fallbacktest.Env(), nil); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	if _, err := fallbacks.NewChain([]string{fails}, map[string]any{fails: 1}, fallbacktest.Env(), nil); err == nil || !strings.Contains(err.Error(), "options are a int, want a *fallbacks_test.noOptions") {
		t.Errorf("got %v", err)
	}
}

// failing panics in Start and fails in Close.
type failing struct{ strategyFunc }

func (failing) Start()       { panic("cannot start") }
func (failing) Close() error { return errors.New("cannot close") }

func TestChainLogsPanicsAndErrorsOfStartAndClose(t *testing.T) {
	name := uniqueName("failing")
	registerStrategy(name, failing{})
	var log strings.Builder
	env := fallbacktest.Env()
	env.Logger = slog.New(slog.NewTextHandler(&log, nil))
	c := fallbacktest.NewChain(t, name, nil, env)
	c.Start()
	c.Close()
	for _, want := range []string{`level=ERROR msg="fallback strategy panicked"`, "method=start", `panic="cannot start"`, `level=WARN msg="cannot close fallback strategy"`, `error="cannot close"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is missing in %s", want, log.String())
		}
	}
}
