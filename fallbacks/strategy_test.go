package fallbacks_test

import (
	"context"
	"errors"
	"strings"
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

// register registers f under a name that is unique to the test, and returns the name.
func register(t *testing.T, name string, f strategyFunc) string {
	t.Helper()
	name = t.Name() + "/" + name
	fallbacks.Register(name, fallbacks.Factory[noOptions]{New: func(*noOptions, fallbacks.Env) (fallbacks.Strategy, error) { return f, nil }})
	return name
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
	declines := register(t, "declines", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) { return nil, errors.New("empty") })
	panics := register(t, "panics", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) { panic("broken") })
	nothing := register(t, "nothing", func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) { return nil, nil })
	third, fourth := register(t, "third", answering(203)), register(t, "fourth", answering(204))
	a, name, err := startChain(t, declines, panics, nothing, third, fourth).Answer(t.Context(), &fallbacktest.Client{}, events.ReasonOpen)
	if err != nil || name != third || a.Status != 203 {
		t.Errorf("got %+v from %q, %v", a, name, err)
	}
	_, _, err = startChain(t, declines, panics).Answer(t.Context(), &fallbacktest.Client{}, events.ReasonOpen)
	if err == nil || !strings.Contains(err.Error(), "declines: empty") || !strings.Contains(err.Error(), "panics: panic: broken") {
		t.Errorf("error %v does not name the error of each strategy", err)
	}
}
