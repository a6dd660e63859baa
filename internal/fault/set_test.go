package fault_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/fault"
)

// eventLog records the events of a set as text.
type eventLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *eventLog) publish(e events.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e := e.(type) {
	case events.FaultStarted:
		l.lines = append(l.lines, fmt.Sprintf("%s started %s", e.Service, e.Fault.Kind))
	case events.FaultEnded:
		l.lines = append(l.lines, fmt.Sprintf("%s ended %s: %s %s", e.Service, e.Fault.Kind, e.Cause, e.Reason))
	}
}

func (l *eventLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func newFault(kind events.FaultKind, d time.Duration) events.Fault {
	return events.Fault{Kind: kind, Status: 503, Share: 1, Duration: events.Duration(d)}
}

func mustStart(t *testing.T, s *fault.Set, f events.Fault) events.Fault {
	t.Helper()
	started, err := s.Start(f)
	if err != nil {
		t.Fatal(err)
	}
	return started
}

func TestFaultsEndOnceAndWithTheirCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log eventLog
		s := fault.NewSet("svc", log.publish, nil)
		expiring := mustStart(t, s, newFault(events.FaultAbort, time.Minute))
		removed := mustStart(t, s, newFault(events.FaultReset, time.Hour))
		if expiring.ID == removed.ID || !expiring.Until.Equal(expiring.Since.Add(time.Minute)) {
			t.Errorf("%+v, %+v", expiring, removed)
		}
		if list := s.List(); len(list) != 2 || list[0].ID != expiring.ID || list[1].ID != removed.ID {
			t.Errorf("%+v", list)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		synctest.Wait()
		if s.Status().Active != 2 {
			t.Error("a fault ended too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if list := s.List(); len(list) != 1 || list[0].ID != removed.ID {
			t.Errorf("%+v", list)
		}
		if _, err := s.End(expiring.ID, ""); err != fault.ErrUnknown {
			t.Error(err)
		}
		if ended, err := s.End(removed.ID, "done"); err != nil || ended.ID != removed.ID {
			t.Errorf("%+v, %v", ended, err)
		}
		if _, err := s.End(removed.ID, ""); err != fault.ErrUnknown {
			t.Error(err)
		}
		if s.Draw(nil) != nil || len(s.List()) != 0 || s.List() == nil {
			t.Errorf("%+v", s.List())
		}
		mustStart(t, s, newFault(events.FaultCut, time.Hour))
		s.Close(events.FaultServiceRemoved)
		if _, err := s.Start(newFault(events.FaultCut, time.Hour)); err != fault.ErrClosed || s.Draw(nil) != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		want := "[svc started abort svc started reset svc ended abort: expired  svc ended reset: removed done svc started cut svc ended cut: service_removed ]"
		if got := fmt.Sprint(log.take()); got != want {
			t.Errorf("events %s\nwant   %s", got, want)
		}
	})
}

func TestNumberOfFaultsIsLimited(t *testing.T) {
	s := fault.NewSet("svc", new(eventLog).publish, nil)
	defer s.Close(events.FaultShutdown)
	first := mustStart(t, s, newFault(events.FaultAbort, time.Hour))
	for range fault.MaxActive - 1 {
		mustStart(t, s, newFault(events.FaultAbort, time.Hour))
	}
	if _, err := s.Start(newFault(events.FaultAbort, time.Hour)); err != fault.ErrTooMany {
		t.Error(err)
	}
	if _, err := s.End(first.ID, ""); err != nil {
		t.Fatal(err)
	}
	mustStart(t, s, newFault(events.FaultAbort, time.Hour))
}

// Each request is hit by the oldest fault that matches it and whose share includes it.
func TestDrawSelectsByShareAndMatch(t *testing.T) {
	seeded := rand.New(rand.NewPCG(1, 2))
	s := fault.NewSet("svc", new(eventLog).publish, seeded.Float64)
	defer s.Close(events.FaultShutdown)
	matching := newFault(events.FaultReset, time.Hour)
	matching.Match = &events.FaultMatch{Header: "x-test", Value: "1"}
	first := mustStart(t, s, matching)
	present := newFault(events.FaultCut, time.Hour)
	present.Match = &events.FaultMatch{Header: "X-Any"}
	second := mustStart(t, s, present)
	for name, c := range map[string]struct {
		header http.Header
		want   string
	}{
		"no header":       {nil, ""},
		"other value":     {http.Header{"X-Test": {"2", "11"}}, ""},
		"value":           {http.Header{"X-Test": {"1"}}, first.ID},
		"second value":    {http.Header{"X-Test": {"2", "1"}}, first.ID},
		"any value":       {http.Header{"X-Any": {""}}, second.ID},
		"both":            {http.Header{"X-Any": {"a"}, "X-Test": {"1"}}, first.ID},
		"value, in parts": {http.Header{"X-Test": {"1, 2"}}, ""},
	} {
		if id, _ := s.Draw(c.header).Labels(); id != c.want {
			t.Errorf("%s: fault %q, want %q", name, id, c.want)
		}
	}
	shared := newFault(events.FaultAbort, time.Hour)
	shared.Share = 0.2
	third := mustStart(t, s, shared)
	rest := newFault(events.FaultDelay, time.Hour)
	rest.Share = 0.5
	fourth := mustStart(t, s, rest)
	hits := map[string]float64{}
	const n = 20_000
	for range n {
		id, _ := s.Draw(nil).Labels()
		hits[id]++
	}
	for id, want := range map[string]float64{third.ID: 0.2, fourth.ID: 0.8 * 0.5, "": 0.8 * 0.5} {
		if got := hits[id] / n; math.Abs(got-want) > 0.02 {
			t.Errorf("fault %q hits a share of %v, want %v", id, got, want)
		}
	}
}

func TestDelayEndsEarly(t *testing.T) {
	errGone := errors.New("the client is gone")
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			end    func(s *fault.Set, id string, cancel context.CancelCauseFunc)
			want   error
			waited time.Duration
		}{
			"passed":              {func(*fault.Set, string, context.CancelCauseFunc) {}, nil, 10 * time.Second},
			"fault ended":         {func(s *fault.Set, id string, _ context.CancelCauseFunc) { _, _ = s.End(id, "") }, nil, time.Second},
			"service removed":     {func(s *fault.Set, _ string, _ context.CancelCauseFunc) { s.Close(events.FaultServiceRemoved) }, nil, time.Second},
			"context has a cause": {func(_ *fault.Set, _ string, cancel context.CancelCauseFunc) { cancel(errGone) }, errGone, time.Second},
		} {
			s := fault.NewSet("svc", new(eventLog).publish, nil)
			f := newFault(events.FaultDelay, time.Hour)
			f.Delay = events.Duration(10 * time.Second)
			f = mustStart(t, s, f)
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { c.end(s, f.ID, cancel) })
			r, _ := http.NewRequestWithContext(ctx, "GET", "http://upstream.invalid/", nil)
			start, sent := time.Now(), false
			_, err := s.Draw(nil).RoundTrip(r, func(*http.Request) (*http.Response, error) { sent = true; return new(http.Response), nil })
			if err != c.want || sent != (err == nil) || time.Since(start) != c.waited {
				t.Errorf("%s: %v, sent %t, after %v", name, err, sent, time.Since(start))
			}
			cancel(nil)
			s.Close(events.FaultShutdown)
		}
	})
}

// The set is used by requests while it is changed.
func TestSetIsSafeForConcurrentUse(t *testing.T) {
	s := fault.NewSet("svc", new(eventLog).publish, nil)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for range 200 {
				if f, err := s.Start(newFault(events.FaultReset, time.Duration(i+1)*time.Microsecond)); err == nil && i%2 == 0 {
					_, _ = s.End(f.ID, "")
				}
			}
		})
		group.Go(func() {
			r, _ := http.NewRequest("GET", "http://upstream.invalid/", nil)
			for range 200 {
				_, _ = s.Draw(nil).RoundTrip(r, func(*http.Request) (*http.Response, error) { return nil, errors.New("sent") })
				_, _ = s.List(), s.Status()
			}
		})
	}
	group.Wait()
	s.Close(events.FaultShutdown)
	if n := s.Status().Active; n != 0 {
		t.Errorf("%d faults are active", n)
	}
}
