package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
	"cbproxy/internal/queue/disk"
)

const (
	drained     = 20_000
	senders     = 250
	drainBytes  = 2 << 10
	drainMemory = 16 << 20 // less than half of the backlog
)

// orderChecker is an upstream that accepts every message, and checks the order and the memory in use.
type orderChecker struct {
	t     *testing.T
	paths []string // of the backlog, in order
	taken int
	most  uint64 // bytes of heap
	all   chan struct{}
}

// Send implements queue.Sender.
func (k *orderChecker) Send(_ context.Context, _ string, m *queue.Message) (queue.Answer, error) {
	if want := k.paths[k.taken]; m.Path != want {
		k.t.Errorf("received %s, want %s", m.Path, want)
	}
	if k.taken++; k.taken%(drained/8) == 1 {
		k.most = max(k.most, heap())
	}
	if k.taken == drained {
		close(k.all)
	}
	return queue.Answer{Status: http.StatusOK}, nil
}

// LastSuccess implements queue.Sender.
func (*orderChecker) LastSuccess(string) time.Time { return time.Time{} }

// heap returns the bytes of heap in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A backlog is kept on disk, not in memory, and is delivered in the order of acceptance.
func TestLongBacklogIsDeliveredInOrderWithBoundedMemory(t *testing.T) {
	folder := t.TempDir()
	paths := fillBacklog(t, folder)
	before := heap()
	kept, q, k := openBacklog(t, folder)
	k.paths = paths
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { q.Run(ctx, k); close(ended) }()
	<-k.all
	stop()
	<-ended
	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}
	if k.most > before+drainMemory {
		t.Errorf("%d bytes of heap are in use, %d more than before", k.most, k.most-before)
	}
	if s := q.Status("a"); s.Waiting != 0 || s.Delivered != drained {
		t.Errorf("%d messages wait and %d of %d are delivered", s.Waiting, s.Delivered, drained)
	}
	if names, _ := filepath.Glob(filepath.Join(folder, "queue", "0*.db")); len(names) != 1 {
		t.Errorf("files after the delivery: %q", names)
	}
}

func openBacklog(t *testing.T, folder string) (*disk.Store, *queue.Queues, *orderChecker) {
	t.Helper()
	kept, setAside, err := disk.Open(folder)
	if err != nil || len(setAside) > 0 {
		t.Fatal(err, setAside)
	}
	t.Cleanup(func() { _ = kept.Close() })
	k := &orderChecker{t: t, all: make(chan struct{})}
	q := queue.New(queue.Config{Store: kept, Bus: new(events.Bus), Logger: slog.New(slog.DiscardHandler)})
	q.Configure("a", queue.Policy{Capacity: drained, MaxAge: time.Hour, MaxAttempts: 1, Backoff: time.Second, MaxBackoff: time.Second, Ordered: true})
	return kept, q, k
}

// fillBacklog accepts messages of many concurrent senders and returns their paths in the order of the queue.
func fillBacklog(t *testing.T, folder string) (paths []string) {
	t.Helper()
	kept, q, _ := openBacklog(t, folder)
	body := bytes.Repeat([]byte("x"), drainBytes)
	var all sync.WaitGroup
	for sender := range senders {
		all.Go(func() {
			for number := range drained / senders {
				m := &queue.Message{Method: "POST", Path: pathOf(sender, number), Header: http.Header{}, Body: body, Accepted: time.Now()}
				if err := q.Accept(t.Context(), "a", m); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	items, err := q.List("a", queue.StateWaiting, "", drained)
	if err = errors.Join(err, kept.Close()); err != nil || len(items) != drained {
		t.Fatalf("%d messages wait, %v", len(items), err)
	}
	var next [senders]int
	for _, i := range items {
		var sender int
		if _, err := fmt.Sscanf(i.Path, "/%d/", &sender); err != nil || i.Path != pathOf(sender, next[sender]) {
			t.Fatalf("%s is not in the order of its sender, %v", i.Path, err)
		}
		next[sender]++
		paths = append(paths, i.Path)
	}
	return paths
}

func pathOf(sender, number int) string { return fmt.Sprintf("/%d/%d", sender, number) }
