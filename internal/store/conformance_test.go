package store_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/redistest"
	"cbproxy/internal/store"
)

// backEnds are all stores there are, each as a function that opens the same one again.
var backEnds = map[string]func(t *testing.T) func() store.Store{
	"memory": func(*testing.T) func() store.Store {
		m := store.NewMemory()
		return func() store.Store { return m }
	},
	"file": func(t *testing.T) func() store.Store {
		folder := t.TempDir()
		return func() store.Store {
			f, setAside, err := store.OpenFile(folder)
			if err != nil || setAside != "" {
				t.Fatal(err, setAside)
			}
			return f
		}
	},
	"redis": func(t *testing.T) func() store.Store {
		server := redistest.Start(t)
		return func() store.Store { return newRedis(t, server.URL()) }
	},
}

func newRedis(t testing.TB, url string, options ...func(*store.RedisConfig)) *store.Redis {
	t.Helper()
	c := store.RedisConfig{
		URL: url, Namespace: "test:", TTL: func() time.Duration { return time.Hour }, Logger: slog.New(slog.DiscardHandler),
	}
	for _, o := range options {
		o(&c)
	}
	r, err := store.NewRedis(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// eachStore runs a test of what every store must do.
func eachStore(t *testing.T, test func(t *testing.T, open func() store.Store)) {
	for name, backEnd := range backEnds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, backEnd(t))
		})
	}
}

// someTime is as exact as every store is.
var someTime = time.Date(2026, 3, 29, 1, 59, 59, 123456000, time.UTC)

func someState(service string, epoch uint64) store.State {
	return store.State{
		Service: service, State: events.Open, Timestamp: someTime, Failures: 5, Instance: "host-1",
		OpenedAt: someTime.Add(-time.Second), Until: someTime.Add(time.Hour), Epoch: epoch, Openings: 3,
		Forced: true, Shared: true, Cause: events.CauseForced, Reason: "a \"reason\"\nwith lines, ünd 字", Prober: "host-1/7",
	}
}

func TestStoreKeepsStates(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() store.Store) {
		s := open()
		if _, found, err := s.Load(t.Context(), "svc"); found || err != nil {
			t.Fatalf("an empty store has a state: %v, %v", found, err)
		}
		closed := store.State{Service: "other", Timestamp: someTime}
		for _, want := range []store.State{someState("svc", 0), someState("svc", 8), closed} {
			if err := s.Save(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			if got, found, err := s.Load(t.Context(), want.Service); got != want || !found || err != nil {
				t.Errorf("saved %+v\nloaded %+v, %v, %v", want, got, found, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
		defer s.Close()
		if got, found, err := s.Load(t.Context(), "svc"); got != someState("svc", 8) || !found || err != nil {
			t.Errorf("after it was closed: %+v, %v, %v", got, found, err)
		}
	})
}

func TestStoreKeepsTheHighestEpoch(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() store.Store) {
		s := open()
		defer s.Close()
		for _, step := range []struct{ epoch, want uint64 }{{5, 5}, {4, 5}, {0, 5}, {6, 6}} {
			if err := s.Save(t.Context(), someState("svc", step.epoch)); err != nil {
				t.Fatal(err)
			}
			if got, _, err := s.Load(t.Context(), "svc"); got.Epoch != step.want || err != nil {
				t.Errorf("after epoch %d it has %d, %v; want %d", step.epoch, got.Epoch, err, step.want)
			}
		}
		again := someState("svc", 6)
		again.Failures = 77
		if err := s.Save(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		if got, _, _ := s.Load(t.Context(), "svc"); got != again {
			t.Errorf("of one epoch it keeps %+v, want the last one", got)
		}
	})
}

func someChange(service string, n int) events.HistoryEntry {
	return events.HistoryEntry{Instance: "host-1", StateChanged: events.StateChanged{
		Time: someTime.Add(time.Duration(n) * time.Millisecond), Service: service, From: events.Closed, To: events.Open,
		Cause: events.CauseConsecutiveFailures, Counts: events.Counts{Requests: uint32(n), Failures: 3},
		Until: someTime.Add(time.Hour), Reason: "<b>why</b>",
		Failure: &events.Failure{Time: someTime, Type: events.ErrorReset, Detail: "read: \x00 reset"},
	}}
}

func TestStoreKeepsTheLastChanges(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() store.Store) {
		s := open()
		if changes, err := s.History(t.Context(), "svc", 10); len(changes) > 0 || err != nil {
			t.Fatalf("an empty store has a history: %v, %v", changes, err)
		}
		const all = 12 * store.HistoryLimit
		for i := range all {
			if err := s.Append(t.Context(), someChange("svc", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Append(t.Context(), someChange("other", 1)); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		s = open()
		defer s.Close()
		changes, err := s.History(t.Context(), "svc", store.HistoryLimit)
		if err != nil || len(changes) != store.HistoryLimit {
			t.Fatalf("%d changes, %v", len(changes), err)
		}
		for i, got := range changes {
			if want := someChange("svc", all-1-i); fmt.Sprintf("%+v %+v", got, *got.Failure) != fmt.Sprintf("%+v %+v", want, *want.Failure) &&
				(got.StateChanged.Counts != want.StateChanged.Counts || !got.Time.Equal(want.Time) || *got.Failure != *want.Failure) {
				t.Fatalf("change %d is %+v, want %+v", i, got, want)
			}
		}
		if few, err := s.History(t.Context(), "svc", 3); len(few) != 3 || few[0].Counts.Requests != all-1 || err != nil {
			t.Errorf("the last three: %+v, %v", few, err)
		}
		if everything, _ := s.History(t.Context(), "svc", 10*all); len(everything) > 10*store.HistoryLimit {
			t.Errorf("%d changes are kept", len(everything))
		}
	})
}

func TestStoreIsForManyAtOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() store.Store) {
		s := open()
		defer s.Close()
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				service := fmt.Sprint("svc", i%4)
				for n := range 25 {
					if err := s.Save(t.Context(), someState(service, uint64(n))); err != nil {
						t.Error(err)
					}
					if err := s.Append(t.Context(), someChange(service, n)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		for i := range 4 {
			service := fmt.Sprint("svc", i)
			got, _, err := s.Load(t.Context(), service)
			changes, err2 := s.History(t.Context(), service, 100)
			if got != someState(service, 24) || len(changes) != 50 || err != nil || err2 != nil {
				t.Errorf("%s: %+v, %d changes, %v, %v", service, got, len(changes), err, err2)
			}
		}
	})
}

func TestRemainingTimeIsNeverLongerThanTheWhole(t *testing.T) {
	s := store.State{State: events.Open, OpenedAt: someTime, Until: someTime.Add(time.Minute)}
	for _, c := range []struct {
		name           string
		now            time.Duration // after it opened
		remaining, age time.Duration
	}{
		{"at once", 0, time.Minute, 0},
		{"later", 20 * time.Second, 40 * time.Second, 20 * time.Second},
		{"at the end", time.Minute, 0, time.Minute},
		{"long after", time.Hour, 0, time.Hour},
		{"the clock was set back", -24 * time.Hour, time.Minute, 0},
	} {
		remaining, age, endless := s.Remaining(someTime.Add(c.now))
		if remaining != c.remaining || age != c.age || endless {
			t.Errorf("%s: %v, %v, %v; want %v and %v", c.name, remaining, age, endless, c.remaining, c.age)
		}
	}
	s.Until = time.Time{}
	if _, age, endless := s.Remaining(someTime.Add(time.Hour)); !endless || age != time.Hour {
		t.Errorf("without an end: %v, %v", age, endless)
	}
}
