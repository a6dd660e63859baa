package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cbproxy/internal/bench/process"
	"cbproxy/internal/events"
	"cbproxy/internal/queue"
	"cbproxy/internal/queue/disk"
)

// Targets for a backlog of a million messages of 1 KB.
const (
	backlogMemory = 200 // MB
	backlogReady  = 5   // seconds
)

// senders is the number of goroutines that fill the backlog, each with its own sequence.
const senders = 256

// backlog measures how cbproxy starts with a long backlog and delivers it.
func backlog(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench backlog", flag.ContinueOnError)
	messages := f.Int("messages", 1_000_000, "number of queued messages")
	binary := f.String("cbproxy", "", "cbproxy binary to measure; default builds ./cmd/cbproxy")
	if err := f.Parse(args); err != nil {
		return err
	}
	b, err := newBench(ctx, options{binary: *binary})
	if err != nil {
		return err
	}
	defer b.close()
	r := report{Machine: describeMachine(), Options: fmt.Sprintf("%d messages of %d bytes", *messages, bodyBytes)}
	s, err := b.backlog(ctx, *messages)
	if err != nil {
		return err
	}
	r.Scenarios = append(r.Scenarios, s)
	return r.print(os.Stdout)
}

// backlog fills the backlog, starts cbproxy with it, and measures both the start and the delivery.
func (b *bench) backlog(ctx context.Context, messages int) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	folder := filepath.Join(b.dir, "backlog")
	begin := time.Now()
	if err := fillBacklog(ctx, folder, messages); err != nil {
		return scenario{}, err
	}
	filled := time.Since(begin)
	files, bytes := queueFiles(folder)
	fmt.Printf("%d messages accepted in %.0f s, stored in %d files with %.0f MB in total\n", messages, filled.Seconds(), files, float64(bytes)/1e6)

	target, err := process.FreeAddress()
	if err != nil {
		return scenario{}, err
	}
	begin = time.Now()
	p, err := b.startCBProxy(ctx, setting{
		name: "cbproxy-backlog", target: target, dataDir: folder, recovery: "1s",
		fallback: "{try: [queue], queue: {capacity: 100000000}}",
	})
	if err != nil {
		return scenario{}, err
	}
	defer p.Close()
	if a, err := get(ctx, "http://"+p.Admin+"/readyz"); err != nil || a.Status != http.StatusOK {
		return scenario{}, fmt.Errorf("/readyz responds with %d, %w%s", a.Status, err, p.Output())
	}
	ready := time.Since(begin)
	atStart, err := process.ReadMemory(p.Cmd.Process.Pid)
	if err != nil {
		return scenario{}, err
	}
	fmt.Printf("ready after %.2f s with %v\n", ready.Seconds(), atStart)

	begin = time.Now()
	largest, last, err := b.deliverBacklog(ctx, p, target, folder, messages)
	if err != nil {
		return scenario{}, err
	}
	took := time.Since(begin)
	files, bytes = queueFiles(folder)
	return scenario{
		Name: "backlog", About: fmt.Sprintf("start with %d queued messages, and their delivery in order", messages),
		Goals: []goal{
			{Name: "ready after, s", Figure: ready.Seconds(), Target: backlogReady},
			{Name: "RSS when ready, MB", Figure: atStart.RSS, Target: backlogMemory},
			{Name: "largest RSS during delivery, MB", Figure: largest.RSS, Target: backlogMemory},
			{Name: "  anonymous at that time", Figure: largest.Anon},
			{Name: "  page cache at that time", Figure: largest.File},
			{Name: "peak RSS (VmHWM), MB", Figure: last.Peak},
			{Name: "delivered per second", Figure: float64(messages) / took.Seconds()},
			{Name: "files at the end", Figure: float64(files)},
			{Name: "  MB", Figure: float64(bytes) / 1e6},
		},
	}, nil
}

// fillBacklog queues messages as the proxy does.
func fillBacklog(ctx context.Context, folder string, messages int) error {
	store, setAside, err := disk.Open(folder)
	if err != nil || len(setAside) > 0 {
		return fmt.Errorf("open the backlog: %w %v", err, setAside)
	}
	q := queue.New(queue.Config{Store: store, Bus: new(events.Bus), Logger: slog.New(slog.DiscardHandler)})
	q.Configure("rag_service", queue.Policy{Capacity: messages})
	errs := make(chan error, senders)
	var all sync.WaitGroup
	for s := range senders {
		all.Go(func() {
			for number := range (messages + senders - 1 - s) / senders {
				if err := q.Accept(ctx, "rag_service", message(s, number)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return fmt.Errorf("fill the backlog: %w", err)
	}
	return store.Close()
}

// message returns a message with a body of about bodyBytes.
func message(sender, number int) *queue.Message {
	n := notification{sender, number, strings.Repeat("x", bodyBytes-48)}
	body, _ := json.Marshal(n) // always marshals
	return &queue.Message{
		Method: "POST", Host: "localhost", Path: "/rag/notifications", Rest: "/notifications", Body: body, Accepted: time.Now(),
		Header: http.Header{"Content-Type": {"application/json"}, "User-Agent": {"bench"}, "Accept": {"application/json"},
			"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"localhost"}, "X-Forwarded-Proto": {"http"}},
	}
}

// deliverBacklog starts an upstream that accepts everything, and waits until it has received all messages. It returns the
// largest and the last memory use of p.
func (b *bench) deliverBacklog(ctx context.Context, p *process.Process, target, folder string, messages int) (largest, last process.Memory, err error) {
	counter, err := process.FreeAddress()
	if err != nil {
		return largest, last, err
	}
	up, err := process.Start(ctx, b.dir, "receiver", target, b.self, "receiver", target, counter)
	if err != nil {
		return largest, last, err
	}
	defer up.Close()
	for begin, reported := time.Now(), 0; ; {
		t, err := fetchCounts(ctx, counter)
		if err != nil {
			return largest, last, err
		}
		if last, err = process.ReadMemory(p.Cmd.Process.Pid); err != nil {
			return largest, last, err
		}
		if last.RSS > largest.RSS {
			largest = last
		}
		if t.Received >= reported+messages/10 || t.Received == messages {
			reported = t.Received
			files, bytes := queueFiles(folder)
			fmt.Printf("%8d delivered after %5.1f s, %v, %d files of %.0f MB\n", t.Received, time.Since(begin).Seconds(), last, files, float64(bytes)/1e6)
		}
		if t.Repeated+t.OutOfOrder > 0 {
			return largest, last, fmt.Errorf("%d messages were delivered again and %d in the wrong order%s", t.Repeated, t.OutOfOrder, p.Output())
		}
		if files, _ := queueFiles(folder); t.Received >= messages && files <= 2 {
			return largest, last, nil // an empty file for new messages and one for dead letters remain
		}
		select {
		case <-p.Exited:
			return largest, last, fmt.Errorf("cbproxy ended after %d messages%s", t.Received, p.Output())
		case <-ctx.Done():
			return largest, last, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// queueFiles returns the number of queue files and their total size.
func queueFiles(folder string) (files int, bytes int64) {
	names, _ := filepath.Glob(filepath.Join(folder, "queue", "*.db")) // the pattern is well formed
	for _, name := range names {
		if info, err := os.Stat(name); err == nil { // it may have been deleted
			files++
			bytes += info.Size()
		}
	}
	return files, bytes
}
