package accesslog

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/testenv"
)

func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// apply prepares and commits a change to s.
func apply(t testing.TB, l *Log, s Settings) {
	t.Helper()
	change, err := l.Prepare(s)
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
}

// lines parses the lines of a file, each of which must be a JSON object.
func lines(t testing.TB, file string) (parsed []map[string]any) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for text := range bytes.Lines(content) {
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		parsed = append(parsed, fields)
	}
	return parsed
}

// eventually waits until done returns true, for at most 20 seconds.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

func TestSamplingKeepsNonRoutineRequests(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	l := New("", discardLogger())
	apply(t, l, Settings{Enabled: true, Destination: file, Format: "json", Sample: 0})
	changes := []func(a *events.AccessRecord){
		func(a *events.AccessRecord) { a.Result = events.ResultFailure },
		func(a *events.AccessRecord) { a.Result = events.ResultRejected },
		func(a *events.AccessRecord) { a.Result = events.ResultCancelled },
		func(a *events.AccessRecord) { a.Strategy = "static" },
		func(a *events.AccessRecord) { a.Attempts = 2 },
		func(a *events.AccessRecord) { a.Status = 500 },
		func(a *events.AccessRecord) { a.Status = 0 },
		func(a *events.AccessRecord) { a.GRPCStatus = "INTERNAL" },
		func(a *events.AccessRecord) { a.Truncated = true },
		func(a *events.AccessRecord) { a.Service, a.Result = "", "" },
	}
	for i, change := range changes {
		l.Log(successRecord())
		notFound := successRecord()
		notFound.GRPCStatus = "NOT_FOUND" // routine, like a 404
		l.Log(notFound)
		a := successRecord()
		change(a)
		a.RequestBytes = int64(i)
		l.Log(a)
	}
	l.Close()
	got := lines(t, file)
	if len(got) != len(changes) {
		t.Fatalf("%d lines for %d requests that are always logged", len(got), len(changes))
	}
	for i, fields := range got {
		if fields["request_bytes"] != float64(i) {
			t.Errorf("line %d is for request %v", i, fields["request_bytes"])
		}
	}
}

func TestSampleSetsLoggedShare(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	l := New("", discardLogger())
	apply(t, l, Settings{Enabled: true, Destination: file, Format: "json", Sample: 0.25})
	for range 4000 {
		l.Log(successRecord())
		eventually(t, "half of the buffer is free", func() bool { return l.current.Load().sink.isHalfEmpty() })
	}
	l.Close()
	if n := len(lines(t, file)); n < 800 || n > 1200 { // seven standard deviations
		t.Errorf("%d of 4000 requests were logged", n)
	}
}

// isHalfEmpty reports whether at least half of the buffer is free.
func (s *sink) isHalfEmpty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)+s.busy < maxBuffered/2
}

func TestBlockedPipeDoesNotBlockRequests(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	l := New("", discardLogger())
	settings := Settings{Enabled: true, Destination: pipe, Format: "json", Sample: 1}
	if _, err := l.Prepare(settings); err == nil || !strings.Contains(err.Error(), "a named pipe that has a reader") {
		t.Fatalf("a pipe without a reader: %v", err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	apply(t, l, settings)
	written := 0
	for l.Dropped() < 1000 { // never ends if Log blocks
		l.Log(successRecord())
		written++
	}
	dropped := int(l.Dropped())
	var got bytes.Buffer
	read := make(chan struct{})
	go func() { defer close(read); _, _ = got.ReadFrom(reader) }()
	l.Close()
	<-read
	if n := strings.Count(got.String(), "\n"); n != written-dropped || int(l.Dropped()) != dropped {
		t.Errorf("%d of %d lines were read, %d were dropped, %d after Close", n, written, dropped, l.Dropped())
	}
	for text := range strings.Lines(got.String()) {
		if !json.Valid([]byte(text)) {
			t.Fatalf("incomplete line: %q", text)
		}
	}
}

func TestCloseDropsLinesForBlockedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var dropped atomic.Uint64
	s := newSink(w, discardLogger(), &dropped)
	text := []byte(strings.Repeat("x", 999) + "\n")
	const written = 500 // several times the capacity of a pipe
	for range written {
		if _, err := s.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	s.close()
	if _, err := s.Write(text); err != errClosed {
		t.Errorf("write after close: %v", err)
	}
	s.flushed(t.Context())
	got := new(bytes.Buffer)
	_, _ = got.ReadFrom(r)
	if n := bytes.Count(got.Bytes(), []byte{'\n'}); n == 0 || n+int(dropped.Load()) != written {
		t.Errorf("%d of %d lines were read, %d were dropped", n, written, dropped.Load())
	}
}

// newSmallDisk returns the path of a file on a disk of 64 KB, of which 24 KB are free, and a function that frees the rest.
func newSmallDisk(t *testing.T) (file string, freeSpace func()) {
	t.Helper()
	disk := testenv.MountDisk(t, "64k")
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(disk, "access.log"), func() {
		t.Helper()
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFullDiskLeavesNoPartialLine(t *testing.T) {
	file, freeSpace := newSmallDisk(t)
	var warnings atomic.Int64
	l := New("", slog.New(slog.NewTextHandler(writeCounter{&warnings}, nil)))
	apply(t, l, Settings{Enabled: true, Destination: file, Format: "json", Sample: 1})
	const written = 120 // 40 KB, twice the free space
	for range written {
		l.Log(successRecord())
	}
	eventually(t, "a warning is logged", func() bool { return warnings.Load() == 1 })
	freeSpace()
	l.Close()
	if n := len(lines(t, file)); n != written || l.Dropped() != 0 {
		t.Errorf("%d of %d lines were written, %d were dropped", n, written, l.Dropped())
	}
}

// A reload reopens the file, here on a full disk. Dropped lines are counted, and later lines are neither written into the
// middle of an earlier one nor before it.
func TestReloadOnFullDiskLeavesNoPartialLine(t *testing.T) {
	t.Parallel()
	file, freeSpace := newSmallDisk(t)
	var warnings atomic.Int64
	l := New("", slog.New(slog.NewTextHandler(writeCounter{&warnings}, nil)))
	settings := Settings{Enabled: true, Destination: file, Format: "json", Sample: 1}
	apply(t, l, settings)
	sequence := 0
	write := func(n int) {
		for range n {
			a := successRecord()
			a.RequestBytes = int64(sequence)
			l.Log(a)
			sequence++
		}
	}
	write(120)
	eventually(t, "the disk is full", func() bool { return warnings.Load() == 1 })
	for range 2 {
		apply(t, l, settings)
	}
	write(3)
	eventually(t, "lines that do not fit are dropped", func() bool { return l.Dropped() > 0 })
	freeSpace()
	l.Close()
	got := lines(t, file)
	if len(got)+int(l.Dropped()) != sequence {
		t.Errorf("%d of %d lines were written, %d were dropped", len(got), sequence, l.Dropped())
	}
	last := -1.0
	for _, fields := range got {
		n := fields["request_bytes"].(float64)
		if n <= last {
			t.Fatalf("line %v follows line %v", n, last)
		}
		last = n
	}
	if last != float64(sequence-1) {
		t.Errorf("the last line is for request %v", last)
	}
}

// A killed process may leave a partial line at the end of the file.
func TestPartialLastLineIsEnded(t *testing.T) {
	t.Parallel()
	for begin, want := range map[string]string{"": "", "{}\n": "{}\n", "{}\n{\"ti": "{}\n{\"ti\n"} {
		file := filepath.Join(t.TempDir(), "access.log")
		if err := os.WriteFile(file, []byte(begin), 0o600); err != nil {
			t.Fatal(err)
		}
		l := New("", discardLogger())
		apply(t, l, Settings{Enabled: true, Destination: file, Format: "text", Sample: 1})
		l.Log(successRecord())
		l.Close()
		content, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(content), want+"time=") {
			t.Errorf("after %q: %q, %v", begin, content, err)
		}
	}
}

// writeCounter counts writes and discards the content.
type writeCounter struct{ n *atomic.Int64 }

func (c writeCounter) Write(p []byte) (int, error) { c.n.Add(1); return len(p), nil }

func TestReloadReopensRotatedFile(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "access.log")
	l := New("", discardLogger())
	settings := Settings{Enabled: true, Destination: file, Format: "json", Sample: 1}
	apply(t, l, settings)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	l.Log(successRecord())
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	l.Log(successRecord())
	apply(t, l, settings)
	l.Log(successRecord())
	l.Close()
	if old, n := len(lines(t, file+".1")), len(lines(t, file)); old != 2 || n != 1 {
		t.Errorf("%d lines in the old file, %d in the new one", old, n)
	}
}

func TestReloadsUnderTrafficLoseOrRepeatNoLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	l := New("", discardLogger())
	settings := Settings{Enabled: true, Destination: file, Format: "json", Sample: 1}
	apply(t, l, settings)
	const clients, requests = 4, 400
	var traffic sync.WaitGroup
	for client := range clients {
		traffic.Go(func() {
			for i := range requests {
				a := successRecord()
				a.RequestBytes = int64(client*requests + i)
				l.Log(a)
			}
		})
	}
	for range 50 {
		apply(t, l, settings)
	}
	traffic.Wait()
	l.Close()
	seen := map[any]bool{}
	for _, fields := range lines(t, file) {
		if seen[fields["request_bytes"]] {
			t.Fatalf("duplicate line: %v", fields)
		}
		seen[fields["request_bytes"]] = true
	}
	if len(seen)+int(l.Dropped()) != clients*requests {
		t.Errorf("%d of %d lines were written, %d were dropped", len(seen), clients*requests, l.Dropped())
	}
}

func TestLogIsDisabledUntilCommit(t *testing.T) {
	l := New("", discardLogger())
	defer l.Close()
	if l.Enabled() {
		t.Error("a new log is enabled")
	}
	l.Log(successRecord())
	change, err := l.Prepare(Settings{Enabled: true, Destination: filepath.Join(t.TempDir(), "access.log"), Format: "text", Sample: 1})
	if err != nil {
		t.Fatal(err)
	}
	change.Discard()
	if l.Enabled() {
		t.Error("a discarded change enabled the log")
	}
	if _, err := l.Prepare(Settings{Enabled: true, Destination: filepath.Join(t.TempDir(), "no", "folder")}); err == nil {
		t.Error("Prepare opened a file in a folder that does not exist")
	}
}
