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

// backends creates a store of each kind and returns a function that opens the same store again.
var backends = map[string]func(t *testing.T) func() store.Store{
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

// eachStore runs a test with every kind of store.
func eachStore(t *testing.T, test func(t *testing.T, open func() store.Store)) {
	for name, backend := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, backend(t))
		})
	}
}

// testTime has microseconds, the precision of the stores.
var testTime = time.Date(2026, 3, 29, 1, 59, 59, 123456000, time.UTC)

func testState(service string, epoch uint64) store.State {
	return store.State{
		Service: service, State: events.Open, Timestamp: testTime, Failures: 5, Instance: "host-1",
		OpenedAt: testTime.Add(-time.Second), Until: testTime.Add(time.Hour), Epoch: epoch, ConsecutiveOpens: 3,
		Forced: true, Shared: true, Cause: events.CauseForced, Reason: "a \"reason\"\nwith lines, ünd 字", Prober: "host-1/7",
	}
}

func TestStoreKeepsStates(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() store.Store) {
		s := open()
		if _, found, err := s.Load(t.Context(), "svc"); found || err != nil {
			t.Fatalf("an empty store has a state: %v, %v", found, err)
		}
		closed := store.State{Service: "other", Timestamp: testTime}
		for _, want := range []store.State{testState("svc", 0), testState("svc", 8), closed} {
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
		if got, found, err := s.Load(t.Context(), "svc"); got != testState("svc", 8) || !found || err != nil {
			t.Errorf("after reopening: %+v, %v, %v", got, found, err)
		}
	})
}

func TestStoreKeepsHighestEpoch(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() store.Store) {
		s := open()
		defer s.Close()
		for _, step := range []struct{ epoch, want uint64 }{{5, 5}, {4, 5}, {0, 5}, {6, 6}} {
			if err := s.Save(t.Context(), testState("svc", step.epoch)); err != nil {
				t.Fatal(err)
			}
			if got, _, err := s.Load(t.Context(), "svc"); got.Epoch != step.want || err != nil {
				t.Errorf("after epoch %d the store has epoch %d, %v; want %d", step.epoch, got.Epoch, err, step.want)
			}
		}
		again := testState("svc", 6)
		again.Failures = 77
		if err := s.Save(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		if got, _, _ := s.Load(t.Context(), "svc"); got != again {
			t.Errorf("with equal epochs the store keeps %+v, want the last state", got)
		}
	})
}

func testChange(service string, n int) events.HistoryEntry {
	return events.HistoryEntry{Instance: "host-1", StateChanged: events.StateChanged{
		Time: testTime.Add(time.Duration(n) * time.Millisecond), Service: service, From: events.Closed, To: events.Open,
		Cause: events.CauseConsecutiveFailures, Counts: events.Counts{Requests: uint32(n), Failures: 3},
		Until: testTime.Add(time.Hour), Reason: "<b>why</b>",
		Failure: &events.Failure{Time: testTime, Type: events.ErrorReset, Detail: "read: \x00 reset"},
	}}
}

func TestStoreKeepsLatestChanges(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() store.Store) {
		s := open()
		if changes, err := s.History(t.Context(), "svc", 10); len(changes) > 0 || err != nil {
			t.Fatalf("an empty store has a history: %v, %v", changes, err)
		}
		const all = 12 * store.HistoryLimit
		for i := range all {
			if err := s.Append(t.Context(), testChange("svc", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Append(t.Context(), testChange("other", 1)); err != nil {
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
			if want := testChange("svc", all-1-i); fmt.Sprintf("%+v %+v", got, *got.Failure) != fmt.Sprintf("%+v %+v", want, *want.Failure) &&
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

func TestStoreIsSafeForConcurrentUse(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() store.Store) {
		s := open()
		defer s.Close()
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				service := fmt.Sprint("svc", i%4)
				for n := range 25 {
					if err := s.Save(t.Context(), testState(service, uint64(n))); err != nil {
						t.Error(err)
					}
					if err := s.Append(t.Context(), testChange(service, n)); err != nil {
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
			if got != testState(service, 24) || len(changes) != 50 || err != nil || err2 != nil {
				t.Errorf("%s: %+v, %d changes, %v, %v", service, got, len(changes), err, err2)
			}
		}
	})
}

func TestRemainingTimeIsAtMostTheWholeTime(t *testing.T) {
	s := store.State{State: events.Open, OpenedAt: testTime, Until: testTime.Add(time.Minute)}
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
		remaining, age, endless := s.Remaining(testTime.Add(c.now))
		if remaining != c.remaining || age != c.age || endless {
			t.Errorf("%s: %v, %v, %v; want %v and %v", c.name, remaining, age, endless, c.remaining, c.age)
		}
	}
	s.Until = time.Time{}
	if _, age, endless := s.Remaining(testTime.Add(time.Hour)); !endless || age != time.Hour {
		t.Errorf("without an end: %v, %v", age, endless)
	}
}
