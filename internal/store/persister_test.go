package store_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/store"
)

// faultyStore is a store whose writes fail or hang as the test wants.
type faultyStore struct {
	*store.Memory
	mu     sync.Mutex
	err    error
	hang   <-chan struct{} // writes wait until it is closed; nil if they do not wait
	writes int
}

func (m *faultyStore) setHang(hang <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hang = hang
}

func (m *faultyStore) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *faultyStore) try() error {
	m.mu.Lock()
	hang := m.hang
	m.mu.Unlock()
	if hang != nil {
		<-hang
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	return m.err
}

func (m *faultyStore) Save(ctx context.Context, s store.State) error {
	if err := m.try(); err != nil {
		return err
	}
	return m.Memory.Save(ctx, s)
}

func (m *faultyStore) Append(ctx context.Context, c events.HistoryEntry) error {
	if err := m.try(); err != nil {
		return err
	}
	return m.Memory.Append(ctx, c)
}

// testPersister is a running Persister of one service. The test sets the number of failures in its state.
type testPersister struct {
	*store.Persister
	bus   events.Bus
	store *faultyStore
	log   bytes.Buffer

	mu       sync.Mutex
	failures int
}

func startPersister(t *testing.T) *testPersister {
	k := &testPersister{store: &faultyStore{Memory: store.NewMemory()}}
	k.Persister = store.NewPersister(store.PersisterConfig{
		Store: k.store, Instance: "me", Services: func() []string { return []string{"svc"} },
		Current: func(service string) (store.State, bool) {
			k.mu.Lock()
			defer k.mu.Unlock()
			return store.State{Service: service, Failures: k.failures}, true
		},
		RecordsHistory: func(c events.StateChanged) bool { return c.Cause != events.CauseFleet },
		Logger:         slog.New(slog.NewTextHandler(&k.log, nil)),
	})
	sub := k.bus.Subscribe(10)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { k.Run(ctx, sub) })
	t.Cleanup(func() { stop(); running.Wait() })
	return k
}

func (k *testPersister) change(failures int, cause events.Cause) {
	k.mu.Lock()
	k.failures = failures
	k.mu.Unlock()
	at := time.Now().In(time.FixedZone("elsewhere", 3600))
	k.bus.Publish(events.StateChanged{Time: at, Until: at, Service: "svc", Cause: cause, Counts: events.Counts{Failures: uint32(failures)}})
}

func (k *testPersister) want(t *testing.T, failures, changes int) {
	t.Helper()
	s, _, _ := k.store.Load(t.Context(), "svc")
	history, _ := k.store.History(t.Context(), "svc", 1000)
	if s.Failures != failures || len(history) != changes {
		t.Errorf("stored %+v and %d changes, want %d failures and %d", s, len(history), failures, changes)
	}
	if len(history) > 0 && history[0].Instance != "me" {
		t.Errorf("a change of instance %q", history[0].Instance)
	}
	for _, c := range history {
		if c.Time.Location() != time.UTC || c.Until.Location() != time.UTC {
			t.Errorf("a change at %v, until %v", c.Time, c.Until)
		}
	}
}

func TestPersisterPersistsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startPersister(t)
		k.change(1, events.CauseProbeFailed)
		synctest.Wait()
		k.want(t, 1, 1)
		k.change(2, events.CauseFleet)
		synctest.Wait()
		k.want(t, 2, 1)
		k.mu.Lock()
		k.failures = 3
		k.mu.Unlock()
		k.bus.Publish(events.Reloaded{})
		synctest.Wait()
		k.want(t, 3, 1)
		writes := k.store.writes
		k.bus.Publish(events.Forced{Service: "svc"})
		synctest.Wait()
		if k.store.writes != writes {
			t.Error("an unchanged state was written again")
		}
	})
}

func TestSyncReturnsAfterStateIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startPersister(t)
		k.mu.Lock()
		k.failures = 7
		k.mu.Unlock()
		if err := k.Sync(t.Context(), "svc"); err != nil {
			t.Fatal(err)
		}
		k.want(t, 7, 0)
		writes := k.store.writes
		if err := k.Sync(t.Context(), "svc"); err != nil || k.store.writes != writes {
			t.Errorf("unchanged state: %v, %d more writes", err, k.store.writes-writes)
		}
	})
}

func TestSyncReturnsStoreError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startPersister(t)
		full := errors.New("no space left")
		k.store.fail(full)
		if err := k.Sync(t.Context(), "svc"); !errors.Is(err, full) {
			t.Errorf("full disk: %v", err)
		}
		k.store.fail(nil)
		hang := make(chan struct{})
		k.store.setHang(hang)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := k.Sync(ctx, "svc"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("hanging disk: %v after %v", err, time.Since(began))
		}
		close(hang)
		if err := k.Sync(t.Context(), "svc"); err != nil {
			t.Errorf("working disk: %v", err)
		}
	})
}

// blockingStore is a store whose first write blocks until release is closed.
type blockingStore struct {
	*store.Memory
	begun, release chan struct{}
	once           sync.Once
}

func (o *blockingStore) Save(ctx context.Context, s store.State) error {
	o.once.Do(func() {
		close(o.begun)
		<-o.release
	})
	return o.Memory.Save(ctx, s)
}

// A write of an older state must not overwrite a later write of a newer state.
func TestSyncIsNotOverwrittenByOlderState(t *testing.T) {
	o := &blockingStore{Memory: store.NewMemory(), begun: make(chan struct{}), release: make(chan struct{})}
	var failures atomic.Int64
	k := store.NewPersister(store.PersisterConfig{
		Store: o, Instance: "me", Services: func() []string { return nil }, RecordsHistory: func(events.StateChanged) bool { return false },
		Current: func(service string) (store.State, bool) {
			return store.State{Service: service, Failures: int(failures.Load())}, true
		},
	})
	failures.Store(1)
	older, newer := make(chan error, 1), make(chan error, 1)
	go func() { older <- k.Sync(t.Context(), "svc") }()
	<-o.begun
	failures.Store(2)
	go func() { newer <- k.Sync(t.Context(), "svc") }()
	close(o.release)
	if err := errors.Join(<-older, <-newer); err != nil {
		t.Fatal(err)
	}
	if s, _, _ := o.Load(t.Context(), "svc"); s.Failures != 2 {
		t.Errorf("the store has %d failures, want the newer 2", s.Failures)
	}
}

func TestPersisterRetriesUntilSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startPersister(t)
		k.store.fail(errors.New("no space left"))
		for i := range 5 {
			k.change(i, events.CauseProbeFailed)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := strings.Count(k.log.String(), "no space left"); n != 1 {
			t.Errorf("%d lines in the log", n)
		}
		if n := k.Errors(); n < 600 || n > 5000 {
			t.Errorf("%d attempts in an hour", n)
		}
		k.store.fail(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		k.want(t, 4, 5)
		if !strings.Contains(k.log.String(), "persisted again") {
			t.Error("the log does not report the recovery")
		}
	})
}

// A Persister that is too slow for all changes still persists the latest state.
func TestPersisterThatMissesChangesPersistsLatestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startPersister(t)
		k.store.fail(errors.New("slow"))
		for i := range 100 {
			k.change(i, events.CauseProbeFailed)
			synctest.Wait()
		}
		k.store.fail(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		s, _, _ := k.store.Load(t.Context(), "svc")
		if s.Failures != 99 {
			t.Errorf("stored %+v", s)
		}
	})
}

func TestFlushPersistsStates(t *testing.T) {
	m := store.NewMemory()
	k := store.NewPersister(store.PersisterConfig{
		Store: m, Services: func() []string { return []string{"svc"} },
		Current: func(service string) (store.State, bool) { return store.State{Service: service, Failures: 7}, true },
	})
	k.Flush(t.Context())
	if s, found, _ := m.Load(t.Context(), "svc"); !found || s.Failures != 7 {
		t.Errorf("stored %+v, %v", s, found)
	}
}
