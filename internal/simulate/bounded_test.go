package simulate

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

func TestCompareCheckedIsCompareForOneService(t *testing.T) {
	calls := Scenario{Name: "flaky", Rate: 20, Minutes: 10, Seed: 1}.Calls(begin)
	policies := func(n int) Policies { return func(string) (breaker.Policy, bool) { return failMax(n), true } }
	want, _ := Compare(Record{"svc": calls}, policies(2), policies(4))
	checks := 0
	var memo Memo
	got, err := CompareChecked("svc", calls, failMax(2), failMax(4), &memo, func(*Result) error { checks++; return nil })
	if err != nil || !reflect.DeepEqual(got, want) || got.Services["svc"].Config.Openings == got.Services["svc"].Against.Openings {
		t.Errorf("%v, %+v, want %+v", err, got.Services["svc"], want.Services["svc"])
	}
	if wanted := 2 * (len(calls)/checkCalls + 1); checks != wanted {
		t.Errorf("%d checks, want %d", checks, wanted)
	}
	stop := errors.New("stop")
	for after := range 2 * (len(calls)/checkCalls + 1) {
		left := after
		report, err := CompareChecked("svc", calls, failMax(2), failMax(4), new(Memo), func(*Result) error {
			if left--; left < 0 {
				return stop
			}
			return nil
		})
		if report != nil || err != stop {
			t.Fatalf("stopped after %d checks: %v, %v", after, report, err)
		}
	}
}

// A result is used again for the same input only.
func TestMemoHoldsTheResultOfTheSameInput(t *testing.T) {
	calls := Scenario{Name: "flaky", Rate: 20, Minutes: 10, Seed: 1}.Calls(begin)
	other := slices.Clone(calls)
	other[len(other)/2].took++
	runs := len(calls)/checkCalls + 1
	var memo Memo
	for _, test := range []struct {
		name            string
		service         string
		calls           []Call
		config, against breaker.Policy
		runs            int
	}{
		{"first", "svc", calls, failMax(2), failMax(4), 2},
		{"another configuration", "svc", calls, failMax(3), failMax(4), 1},
		{"twice the same", "svc", calls, failMax(4), failMax(4), 0},
		{"a call that differs", "svc", other, failMax(3), failMax(4), 2},
		{"another service", "svc2", other, failMax(3), failMax(4), 2},
		{"another one to compare with", "svc2", other, failMax(3), failMax(5), 2},
	} {
		checks := 0
		got, err := CompareChecked(test.service, test.calls, test.config, test.against, &memo, func(*Result) error { checks++; return nil })
		want, _ := Compare(Record{test.service: test.calls},
			func(string) (breaker.Policy, bool) { return test.config, true }, func(string) (breaker.Policy, bool) { return test.against, true })
		if err != nil || !reflect.DeepEqual(got, want) || checks != test.runs*runs {
			t.Errorf("%s: %v, %d checks, want %d, %+v, want %+v", test.name, err, checks, test.runs*runs, got.Services[test.service], want.Services[test.service])
		}
	}
}

func TestCompareCheckedWithoutCalls(t *testing.T) {
	report, err := CompareChecked("svc", nil, failMax(2), failMax(4), new(Memo), func(*Result) error { return nil })
	if content, _ := json.Marshal(report); err != nil || string(content) != `{"services":{}}` {
		t.Errorf("%v, %s", err, content)
	}
}

func TestSetBucketsCountsEachCallOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 50).Draw(t, "buckets")
		since := begin.Add(time.Duration(rapid.Int64Range(-1e10, 1e10).Draw(t, "since")))
		until := since.Add(time.Duration(rapid.Int64Range(1, 3e10).Draw(t, "length")))
		calls := callsOf("sfrsffscr")
		var s ServiceReport
		s.SetBuckets(calls, since, until, n)
		if len(s.Buckets) != n || !s.Buckets[0].Time.Equal(since) || s.Buckets[n-1].Time.After(until.Add(time.Duration(n))) {
			t.Fatalf("%d buckets, from %v to %v", len(s.Buckets), s.Buckets[0].Time, s.Buckets[n-1].Time)
		}
		step := until.Sub(since)
		if n > 1 {
			step = s.Buckets[1].Time.Sub(since)
		}
		for _, b := range s.Buckets {
			var want Bucket
			for _, c := range calls {
				if at := c.Time(); at.Before(b.Time) || !at.Before(b.Time.Add(step)) {
					continue
				}
				want.Calls++
				switch c.Result() {
				case events.ResultFailure:
					want.Failures++
				case events.ResultRejected:
					want.Rejected++
				}
			}
			if want.Time = b.Time; b != want {
				t.Fatalf("%+v, want %+v", b, want)
			}
		}
	})
}

func TestNewestHoldsTheNewestCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit, count := rapid.IntRange(1, 3000).Draw(t, "limit"), rapid.IntRange(0, 9000).Draw(t, "calls")
		newest := NewNewest(limit)
		for i := range count {
			newest.Add(events.Call{Time: begin.Add(time.Duration(i) * time.Second), Result: events.ResultSuccess})
		}
		calls, err := newest.Calls()
		if count <= limit {
			if err != nil || len(calls) != count || newest.Total() != count {
				t.Fatalf("%d calls of %d: %v", len(calls), newest.Total(), err)
			}
			for i := range calls {
				if !calls[i].Time().Equal(begin.Add(time.Duration(i) * time.Second)) {
					t.Fatalf("call %d is at %v", i, calls[i].Time())
				}
			}
			return
		}
		var tooMany *TooManyCallsError
		if !errors.As(err, &tooMany) || tooMany.Calls != count {
			t.Fatal(err)
		}
		since := int(tooMany.Since.Sub(begin) / time.Second) // the number of the first call that fits
		if fits := count - since; fits > limit || fits < limit*8/10-2 {
			t.Fatalf("%d calls are since %v, of %d that fit", fits, tooMany.Since, limit)
		}
	})
}

type number int

func (n number) before(other number) bool { return n < other }

func TestHeapPopsTheLeast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h heap[number]
		var model []number
		for _, n := range rapid.SliceOf(rapid.IntRange(-1, 50)).Draw(t, "numbers") {
			if n >= 0 {
				h.push(number(n), number.before)
				model = append(model, number(n))
				slices.Sort(model)
			} else if len(model) > 0 {
				if got := h.pop(number.before); got != model[0] {
					t.Fatalf("got %d, want %d", got, model[0])
				}
				model = model[1:]
			}
		}
		if len(h) != len(model) {
			t.Fatalf("%d left, want %d", len(h), len(model))
		}
	})
}
