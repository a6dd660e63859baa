package fallbacks_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

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
