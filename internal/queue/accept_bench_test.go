package queue_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"runtime"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
	"cbproxy/internal/queue/disk"
)

// BenchmarkAccept measures the acceptance of messages of 1 KiB by 64 concurrent callers, which share commits.
func BenchmarkAccept(b *testing.B) {
	kept, _, err := disk.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer kept.Close()
	q := queue.New(queue.Config{Store: kept, Bus: new(events.Bus), Logger: slog.New(slog.DiscardHandler)})
	q.Configure("a", queue.Policy{Capacity: 1 << 30})
	body := bytes.Repeat([]byte("x"), 1<<10)
	before := q.Commits()
	b.ReportAllocs()
	b.SetParallelism((64 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			err := q.Accept(b.Context(), "a", &queue.Message{
				Method: "POST", Host: "localhost", Path: "/rag/notifications", Rest: "/notifications", Body: body, Accepted: time.Now(),
				Header: http.Header{"Content-Type": {"application/json"}, "User-Agent": {"bench"}, "X-Forwarded-For": {"127.0.0.1"}},
			})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(q.Commits()-before)/float64(b.N), "commits/op")
}
