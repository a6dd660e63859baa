package fallbacks_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
)

// strategyFunc makes a strategy of a function.
type strategyFunc func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error)

func (f strategyFunc) Answer(ctx context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	return f(ctx, r)
}

type none struct{}

// register makes f known under a name that is the test's alone, and returns that.
func register(t *testing.T, name string, f strategyFunc) string {
	t.Helper()
	name = t.Name() + "/" + name
	fallbacks.Register(name, fallbacks.Factory[none]{New: func(*none, fallbacks.Site) (fallbacks.Strategy, error) { return f, nil }})
	return name
}

func site() fallbacks.Site {
	return fallbacks.Site{Service: "svc", Logger: slog.New(slog.DiscardHandler)}
}

// chainOf returns a chain of strategies with their options by default.
func chainOf(t *testing.T, try ...string) *fallbacks.Chain {
	t.Helper()
	options := map[string]any{}
	for _, name := range try {
		options[name] = fallbacks.Options()[name]()
	}
	c, err := fallbacks.NewChain(try, options, site(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(c.Close)
	return c
}

// client is a client's request, whole.
type client struct {
	request fallbacks.Request
	body    []byte
}

func (c *client) Request() *fallbacks.Request { r := c.request; return &r }

func (c *client) Body(limit int64) ([]byte, error) {
	if int64(len(c.body)) > limit {
		return nil, errors.New("too large")
	}
	return c.body, nil
}

func answering(status int) strategyFunc {
	return func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) {
		return &fallbacks.Answer{Status: status}, nil
	}
}

func TestChainTakesTheFirstAnswer(t *testing.T) {
	declines := register(t, "declines", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) { return nil, errors.New("empty") })
	panics := register(t, "panics", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) { panic("broken") })
	nothing := register(t, "nothing", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) { return nil, nil })
	third, fourth := register(t, "third", answering(203)), register(t, "fourth", answering(204))
	a, name, err := chainOf(t, declines, panics, nothing, third, fourth).Answer(t.Context(), &client{}, events.ReasonOpen)
	if err != nil || name != third || a.Status != 203 {
		t.Errorf("got %+v from %q, %v", a, name, err)
	}
	_, _, err = chainOf(t, declines, panics).Answer(t.Context(), &client{}, events.ReasonOpen)
	if err == nil || !strings.Contains(err.Error(), "declines: empty") || !strings.Contains(err.Error(), "panics: panic: broken") {
		t.Errorf("error %v does not say why each strategy declined", err)
	}
}

func TestStaticAnswersWithWhatWasConfigured(t *testing.T) {
	options := map[string]any{"static": &fallbacks.StaticOptions{
		Status: 203, Headers: map[string]string{"x-a": "b", "content-type": "text/x"}, Body: fallbacks.JSON(`{"a":1}`),
	}}
	chain, err := fallbacks.NewChain([]string{"static"}, options, site(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := chain.Answer(t.Context(), nil, events.ReasonOpen)
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{"X-A": {"b"}, "Content-Type": {"text/x"}, "Content-Length": {"7"}}
	if a.Status != 203 || string(a.Body) != `{"a":1}` || fmt.Sprint(a.Header) != fmt.Sprint(want) {
		t.Errorf("got %+v", a)
	}
}

func TestStaticOptionsReportEveryFault(t *testing.T) {
	o := fallbacks.StaticOptions{Status: 200, Headers: map[string]string{
		"bad name": "x", "X-Ok": "new\nline", "x-fallback": "cache", "X-Circuit-Breaker-State": "closed", "X-Fine": "fine",
	}}
	faults := map[string]bool{}
	o.Validate(func(path, _ string) { faults[path] = true })
	for _, path := range []string{"body", "headers.bad name", "headers.X-Ok", "headers.x-fallback", "headers.X-Circuit-Breaker-State"} {
		if !faults[path] {
			t.Errorf("no fault at %s", path)
		}
	}
	if len(faults) != 5 {
		t.Errorf("faults %v, want 5", faults)
	}
	none := fallbacks.StaticOptions{Status: http.StatusNoContent}
	none.Validate(func(path, message string) { t.Errorf("204 without a body: %s: %s", path, message) })
}
