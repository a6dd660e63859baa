package fallbacks_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	"cbproxy/internal/events"
)

// startInline returns a started chain of inline strategies, and its log.
func startInline(t *testing.T, strategies ...fallbacks.Strategy) (*fallbacks.Chain, *strings.Builder) {
	t.Helper()
	var try []string
	options := map[string]any{}
	for _, s := range strategies {
		name := uniqueName("inline")
		fallbacks.Register(name, fallbacks.Factory[noOptions]{Inline: true, New: func(*noOptions, fallbacks.Env) (fallbacks.Strategy, error) { return s, nil }})
		try, options[name] = append(try, name), &noOptions{}
	}
	log, env := new(strings.Builder), fallbacktest.Env()
	env.Logger = slog.New(slog.NewTextHandler(log, nil))
	c, err := fallbacks.NewChain(try, options, env, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(c.Close)
	return c, log
}

// observer is an Observer of bodies of up to limit bytes. It collects what it gets.
type observer struct {
	strategyFunc
	limit    int64
	declines bool
	panics   string // the method that panics
	got      []string
}

func (o *observer) BodyLimit() int64 { return o.limit }

func (o *observer) Record(r *fallbacks.Request, _ int, _ http.Header) fallbacks.Recorder {
	o.note("record", string(r.Body))
	if o.declines {
		return nil
	}
	return o
}

func (o *observer) Write(part []byte) { o.note("write", string(part)) }
func (o *observer) Done()             { o.note("done", "") }

func (o *observer) note(method, text string) {
	if o.got = append(o.got, method+" "+text); o.panics == method {
		panic("broken")
	}
}

// All observers of a chain get the response, whatever the others do.
func TestEveryObserverRecords(t *testing.T) {
	whole := []string{"record body", "write a", "write b", "done "}
	for name, test := range map[string]struct {
		observers []*observer
		want      [][]string
		panics    int
	}{
		"one":          {[]*observer{{limit: 9}}, [][]string{whole}, 0},
		"two":          {[]*observer{{limit: 9}, {limit: 9}}, [][]string{whole, whole}, 0},
		"three":        {[]*observer{{limit: 9}, {limit: 3}, {limit: 9}}, [][]string{whole, {"record ", "write a", "write b", "done "}, whole}, 0},
		"one declines": {[]*observer{{limit: 9, declines: true}, {limit: 9}}, [][]string{whole[:1], whole}, 0},
		"all decline":  {[]*observer{{limit: 9, declines: true}, {limit: 9, declines: true}}, [][]string{whole[:1], whole[:1]}, 0},
		"panics": {
			[]*observer{{limit: 9, panics: "record"}, {limit: 9, panics: "write"}, {limit: 9, panics: "done"}, {limit: 9}},
			[][]string{whole[:1], whole[:2], whole, whole}, 3,
		},
	} {
		var strategies []fallbacks.Strategy
		for _, o := range test.observers {
			strategies = append(strategies, o)
		}
		c, log := startInline(t, strategies...)
		if r := c.Record(&fallbacktest.Client{Content: []byte("body")}, 200, nil); r != nil {
			r.Write([]byte("a"))
			r.Write([]byte("b"))
			r.Done()
		} else if !strings.Contains(name, "decline") {
			t.Errorf("%s: nothing is recorded", name)
		}
		for i, o := range test.observers {
			if !reflect.DeepEqual(o.got, test.want[i]) {
				t.Errorf("%s: observer %d got %q, want %q", name, i, o.got, test.want[i])
			}
		}
		if n := strings.Count(log.String(), "fallback strategy panicked"); n != test.panics {
			t.Errorf("%s: %d panics in the log, want %d: %s", name, n, test.panics, log)
		}
	}
}

// interceptor intercepts requests with a method for a reason, unless that is empty. A method "panic" makes it panic.
type interceptor struct {
	strategyFunc
	method, reason string
}

func (i interceptor) Intercept(method string) (reason string, ok bool) {
	if i.method == "panic" {
		panic("broken")
	}
	return i.reason, i.method == method
}

func (i interceptor) CacheStats() fallbacks.CacheStats { panic("broken") }
func (i interceptor) BreakerState() events.State       { panic("broken") }

func TestFirstInterceptorThatInterceptsDecides(t *testing.T) {
	c, log := startInline(t, interceptor{method: "panic"}, interceptor{method: "GET", reason: "timeout"}, interceptor{method: "POST", reason: "open"}, interceptor{method: "POST", reason: "reset"})
	for method, want := range map[string]events.Reason{"GET": "timeout", "POST": "open", "PUT": ""} {
		if reason, ok := c.Intercept(method); reason != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", method, reason, ok)
		}
	}
	if !strings.Contains(log.String(), "method=intercept") {
		t.Errorf("the panic is not in the log: %s", log)
	}
	if _, ok := c.BreakerState(); ok || c.CacheStats() != (fallbacks.CacheStats{}) {
		t.Error("metrics of methods that panic")
	}
}

// constant has a constant answer.
type constant struct {
	strategyFunc
	answer func() *fallbacks.Answer
}

func (c constant) ConstantAnswer() *fallbacks.Answer { return c.answer() }

func TestConstantAnswersAreSanitized(t *testing.T) {
	c, _ := startInline(t, constant{answer: func() *fallbacks.Answer {
		return &fallbacks.Answer{Status: 203, Header: http.Header{"Connection": {"close"}, "Retry-After": {"1"}, "x-a": {"b"}, "Content-Length": {"9"}}, Body: []byte("ok")}
	}})
	want := http.Header{"X-A": {"b"}, "Content-Length": {"2"}, "Content-Type": nil}
	if a, err := fallbacktest.Answer(t, c, fallbacktest.NewGET()); err != nil || a.Status != 203 || string(a.Body) != "ok" || !reflect.DeepEqual(a.Header, want) {
		t.Errorf("got %+v, %v", a, err)
	}
}

// badLimits and badTimeLimit panic in a method that is called when the chain is built.
type badLimits struct{ strategyFunc }

func (badLimits) BodyLimit() int64 { panic("no limit") }

type badTimeLimit struct{ strategyFunc }

func (badTimeLimit) TimeLimit() time.Duration { panic("no time limit") }

func TestNewChainReportsBrokenStrategies(t *testing.T) {
	answer := func(a *fallbacks.Answer) fallbacks.Strategy {
		return constant{answer: func() *fallbacks.Answer { return a }}
	}
	for want, s := range map[string]fallbacks.Strategy{
		"panic: no limit":      badLimits{},
		"panic: no time limit": badTimeLimit{},
		"panic: no answer":     constant{answer: func() *fallbacks.Answer { panic("no answer") }},
		"its constant answer is invalid: status 0 is not from 200 to 599": answer(&fallbacks.Answer{}),
		"its constant answer is nil":                                      answer(nil),
		"panic: no strategy":                                              nil,
	} {
		name := uniqueName("broken")
		fallbacks.Register(name, fallbacks.Factory[noOptions]{Inline: true, New: func(*noOptions, fallbacks.Env) (fallbacks.Strategy, error) {
			if s == nil {
				panic("no strategy")
			}
			return s, nil
		}})
		if _, err := fallbacks.NewChain([]string{name}, map[string]any{name: &noOptions{}}, fallbacktest.Env(), nil); err == nil || err.Error() != "build strategy "+name+": "+want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// storer is a Storer that notes whether its context has ended.
type storer struct{ contextErrors []error }

func (s *storer) StoresRequests() {}

func (s *storer) Answer(ctx context.Context, _ *fallbacks.Request) (*fallbacks.Answer, error) {
	if _, ok := ctx.Deadline(); !ok {
		return nil, errors.New("there is no time limit")
	}
	s.contextErrors = append(s.contextErrors, ctx.Err())
	return &fallbacks.Answer{Status: 202}, nil
}

// A request is stored although its client has left, and then no other strategy is called.
func TestStorersAreCalledForClientsThatHaveLeft(t *testing.T) {
	fixed, s := constant{answer: func() *fallbacks.Answer { return &fallbacks.Answer{Status: 203} }}, new(storer)
	fails := strategyFunc(func(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) {
		t.Error("another strategy is called")
		return nil, errors.New("no answer")
	})
	left, cancel := context.WithCancel(t.Context())
	cancel()
	c, _ := startInline(t, fails, fixed, s)
	if a, _, err := c.Store(left, &fallbacktest.Client{}, events.ReasonReset); err != nil || a.Status != 202 {
		t.Errorf("got %+v, %v", a, err)
	}
	c, _ = startInline(t, s, fixed)
	if a, _, err := c.Answer(left, &fallbacktest.Client{}, events.ReasonReset); err != nil || a.Status != 202 {
		t.Errorf("got %+v, %v", a, err)
	}
	if len(s.contextErrors) != 2 || s.contextErrors[0] != nil || s.contextErrors[1] != nil {
		t.Errorf("contexts %v", s.contextErrors)
	}
	c, _ = startInline(t, fails, fixed)
	if a, _, err := c.Store(left, &fallbacktest.Client{}, events.ReasonReset); err != nil || a != nil {
		t.Errorf("without a Storer: got %+v, %v", a, err)
	}
}
