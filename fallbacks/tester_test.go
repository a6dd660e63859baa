package fallbacks_test

import (
	"context"
	"testing"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	"cbproxy/internal/events"
)

// storing is a strategy that stores requests and is no Tester.
type storing struct{ strategyFunc }

func (storing) StoresRequests() {}

// testable is a Tester that stores requests.
type testable struct {
	storing
	test strategyFunc
}

func (t testable) AnswerTest(ctx context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	return t.test(ctx, r)
}

// A test calls AnswerTest of a Tester, Answer of another strategy, and nothing of a strategy that stores requests and is no Tester.
func TestATestHasNoEffect(t *testing.T) {
	reasons := make(chan string, 10)
	answer := func(status int) strategyFunc {
		return func(_ context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
			reasons <- r.Reason
			return &fallbacks.Answer{Status: status}, nil
		}
	}
	plain := answer(201)
	for name, c := range map[string]struct {
		strategy     fallbacks.Strategy
		status, test int // of the answer; 0: none
	}{
		"plain":    {plain, 201, 201},
		"storing":  {storing{plain}, 201, 0},
		"testable": {testable{storing{plain}, answer(202)}, 201, 202},
	} {
		isolated := uniqueName(name)
		registerStrategy(isolated, c.strategy)
		inline, _ := startInline(t, c.strategy)
		for kind, chain := range map[string]*fallbacks.Chain{"isolated": startChain(t, isolated), "inline": inline} {
			for reason, want := range map[events.Reason]int{events.ReasonOpen: c.status, events.ReasonTest: c.test} {
				a, _, err := chain.Answer(t.Context(), &fallbacktest.Client{}, reason)
				switch {
				case want == 0 && err == nil || want != 0 && (err != nil || a.Status != want):
					t.Errorf("%s, %s, %s: %+v, %v", kind, name, reason, a, err)
				case want != 0:
					if r := <-reasons; r != string(reason) {
						t.Errorf("%s, %s: the reason is %q, want %q", kind, name, r, reason)
					}
				case len(reasons) > 0:
					t.Errorf("%s, %s: the strategy was called for a test", kind, name)
				}
			}
		}
	}
}
