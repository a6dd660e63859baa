package fallbacks_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
)

// strategyFunc makes a strategy of a function.
type strategyFunc func() (*fallbacks.Answer, error)

func (f strategyFunc) Answer(context.Context, *fallbacks.Request) (*fallbacks.Answer, error) {
	return f()
}

func answering(status int) strategyFunc {
	return func() (*fallbacks.Answer, error) { return &fallbacks.Answer{Status: status}, nil }
}

func TestChainTakesTheFirstAnswer(t *testing.T) {
	declines := strategyFunc(func() (*fallbacks.Answer, error) { return nil, errors.New("empty cache") })
	panics := strategyFunc(func() (*fallbacks.Answer, error) { panic("broken") })
	says := strategyFunc(func() (*fallbacks.Answer, error) { return nil, nil })
	chain := fallbacks.NewChain(
		fallbacks.Step{Name: "declines", Strategy: declines},
		fallbacks.Step{Name: "panics", Strategy: panics},
		fallbacks.Step{Name: "nothing", Strategy: says},
		fallbacks.Step{Name: "third", Strategy: answering(203)},
		fallbacks.Step{Name: "fourth", Strategy: answering(204)},
	)
	a, name, err := chain.Answer(t.Context(), &fallbacks.Request{Reason: events.ReasonOpen})
	if err != nil || name != "third" || a.Status != 203 {
		t.Errorf("got %+v from %q, %v", a, name, err)
	}

	chain = fallbacks.NewChain(fallbacks.Step{Name: "declines", Strategy: declines}, fallbacks.Step{Name: "panics", Strategy: panics})
	_, _, err = chain.Answer(t.Context(), &fallbacks.Request{})
	if err == nil || !strings.Contains(err.Error(), "declines: empty cache") || !strings.Contains(err.Error(), "panics: panic: broken") {
		t.Errorf("error %v does not say why each strategy declined", err)
	}
}

func TestStaticAnswersWithWhatWasConfigured(t *testing.T) {
	s, err := fallbacks.New("static", &fallbacks.StaticOptions{
		Status: 203, Headers: map[string]string{"x-a": "b", "content-type": "text/x"}, Body: fallbacks.JSON(`{"a":1}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Answer(t.Context(), &fallbacks.Request{})
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

// teapot is a strategy of somebody else's.
type teapot struct{ reason string }

type teapotOptions struct {
	Reason string `yaml:"reason"`
}

func (p teapot) Answer(_ context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	body := fmt.Sprintf("%s: %s is %s", p.reason, r.Service, r.Reason)
	return &fallbacks.Answer{Status: http.StatusTeapot, Body: []byte(body)}, nil
}

func ExampleRegister() {
	fallbacks.Register("teapot",
		func() *teapotOptions { return &teapotOptions{Reason: "short and stout"} },
		func(o *teapotOptions) (fallbacks.Strategy, error) { return teapot{o.Reason}, nil })

	options := fallbacks.Options()["teapot"]() // a configuration fills it from fallbacks.NAME.teapot
	s, err := fallbacks.New("teapot", options)
	if err != nil {
		fmt.Println(err)
		return
	}
	a, _ := s.Answer(context.Background(), &fallbacks.Request{Service: "rag_service", Reason: events.ReasonOpen})
	fmt.Println(a.Status, string(a.Body))
	// Output: 418 short and stout: rag_service is open
}
