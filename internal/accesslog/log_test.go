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
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// apply puts settings in force.
func apply(t testing.TB, l *Log, s Settings) {
	t.Helper()
	change, err := l.Prepare(s)
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
}

// lines returns the whole lines of a file, each of which must be JSON.
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

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

func TestWhatIsNotUneventfulIsAlwaysLogged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	l := New("", discard())
	apply(t, l, Settings{Enabled: true, Destination: file, Format: "json", Sample: 0})
	eventful := []func(a *events.AccessRecord){
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
	for i, change := range eventful {
		l.Log(healthy())
		refused := healthy()
		refused.GRPCStatus = "NOT_FOUND" // as a 404 is
		l.Log(refused)
		a := healthy()
		change(a)
		a.RequestBytes = int64(i)
		l.Log(a)
	}
	l.Close()
	got := lines(t, file)
	if len(got) != len(eventful) {
		t.Fatalf("%d lines for %d requests that are always logged", len(got), len(eventful))
	}
	for i, fields := range got {
		if fields["request_bytes"] != float64(i) {
			t.Errorf("line %d is of request %v", i, fields["request_bytes"])
		}
	}
}

func TestSampleIsAShare(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	l := New("", discard())
	apply(t, l, Settings{Enabled: true, Destination: file, Format: "json", Sample: 0.25})
	for range 4000 {
		l.Log(healthy())
		eventually(t, "there is room", func() bool { return l.current.Load().sink.room() })
	}
	l.Close()
	if n := len(lines(t, file)); n < 800 || n > 1200 { // seven standard deviations
		t.Errorf("%d of 4000", n)
	}
}

// room reports whether half of the buffer is free.
func (s *sink) room() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)+s.busy < bufferBytes/2
}

func TestBlockedPipeHoldsNobodyUp(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	l := New("", discard())
	settings := Settings{Enabled: true, Destination: pipe, Format: "json", Sample: 1}
	if _, err := l.Prepare(settings); err == nil || !strings.Contains(err.Error(), "a named pipe that has a reader") {
		t.Fatalf("a pipe that nobody reads: %v", err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	apply(t, l, settings)
	written := 0
	for l.Dropped() < 1000 { // would never come to its end if one of them waited
		l.Log(healthy())
		written++
	}
	dropped := int(l.Dropped())
	var got bytes.Buffer
	read := make(chan struct{})
	go func() { defer close(read); _, _ = got.ReadFrom(reader) }()
	l.Close()
	<-read
	if n := strings.Count(got.String(), "\n"); n != written-dropped || int(l.Dropped()) != dropped {
		t.Errorf("%d lines came of %d, %d were dropped, later %d", n, written, dropped, l.Dropped())
	}
	for text := range strings.Lines(got.String()) {
		if !json.Valid([]byte(text)) {
			t.Fatalf("torn: %q", text)
		}
	}
}

func TestCloseGivesUpABlockedPipeAndCounts(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var dropped atomic.Uint64
	s := newSink(w, discard(), &dropped)
	text := []byte(strings.Repeat("x", 999) + "\n")
	const written = 500 // several times what a pipe holds
	for range written {
		if _, err := s.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	s.close()
	if _, err := s.Write(text); err != errClosed {
		t.Errorf("after close: %v", err)
	}
	s.flushed(t.Context())
	got := new(bytes.Buffer)
	_, _ = got.ReadFrom(r)
	if n := bytes.Count(got.Bytes(), []byte{'\n'}); n == 0 || n+int(dropped.Load()) != written {
		t.Errorf("%d of %d lines came, %d were dropped", n, written, dropped.Load())
	}
}

// smallDisk returns a file on a disk of 64 KB with 24 KB of room, and what makes more.
func smallDisk(t *testing.T) (file string, makeRoom func()) {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		if os.Getenv("CI") != "" { // where it can be done, and must be
			t.Fatalf("mount a small disk: %v", err)
		}
		t.Skipf("mount a small disk, as root can: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
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

func TestDiskThatIsFullForAWhileTearsNoLine(t *testing.T) {
	file, makeRoom := smallDisk(t)
	var warnings atomic.Int64
	l := New("", slog.New(slog.NewTextHandler(counter{&warnings}, nil)))
	apply(t, l, Settings{Enabled: true, Destination: file, Format: "json", Sample: 1})
	const written = 120 // 40 KB, of which there is room for half
	for range written {
		l.Log(healthy())
	}
	eventually(t, "the operator is told", func() bool { return warnings.Load() == 1 })
	makeRoom()
	l.Close()
	if n := len(lines(t, file)); n != written || l.Dropped() != 0 {
		t.Errorf("%d of %d lines, %d dropped", n, written, l.Dropped())
	}
}

// A full disk when the file is opened anew, as each reload does: what is given up is counted, and the next
// lines neither stand in the middle of another one nor come before it.
func TestReloadOnAFullDiskTearsNoLine(t *testing.T) {
	t.Parallel()
	file, makeRoom := smallDisk(t)
	var warnings atomic.Int64
	l := New("", slog.New(slog.NewTextHandler(counter{&warnings}, nil)))
	settings := Settings{Enabled: true, Destination: file, Format: "json", Sample: 1}
	apply(t, l, settings)
	sequence := 0
	write := func(n int) {
		for range n {
			a := healthy()
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
	eventually(t, "what does not fit is given up", func() bool { return l.Dropped() > 0 })
	makeRoom()
	l.Close()
	got := lines(t, file)
	if len(got)+int(l.Dropped()) != sequence {
		t.Errorf("%d lines and %d dropped of %d", len(got), l.Dropped(), sequence)
	}
	last := -1.0
	for _, fields := range got {
		n := fields["request_bytes"].(float64)
		if n <= last {
			t.Fatalf("line %v comes after line %v", n, last)
		}
		last = n
	}
	if last != float64(sequence-1) {
		t.Errorf("the last line is %v", last)
	}
}

// A process that was killed may have left the beginning of a line.
func TestNextLineDoesNotContinueAnotherOnes(t *testing.T) {
	t.Parallel()
	for begin, want := range map[string]string{"": "", "{}\n": "{}\n", "{}\n{\"ti": "{}\n{\"ti\n"} {
		file := filepath.Join(t.TempDir(), "access.log")
		if err := os.WriteFile(file, []byte(begin), 0o600); err != nil {
			t.Fatal(err)
		}
		l := New("", discard())
		apply(t, l, Settings{Enabled: true, Destination: file, Format: "text", Sample: 1})
		l.Log(healthy())
		l.Close()
		content, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(content), want+"time=") {
			t.Errorf("after %q: %q, %v", begin, content, err)
		}
	}
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) { c.n.Add(1); return len(p), nil }

func TestRotatedFileIsOpenedAnew(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "access.log")
	l := New("", discard())
	settings := Settings{Enabled: true, Destination: file, Format: "json", Sample: 1}
	apply(t, l, settings)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	l.Log(healthy())
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	l.Log(healthy())
	apply(t, l, settings)
	l.Log(healthy())
	l.Close()
	if old, n := len(lines(t, file+".1")), len(lines(t, file)); old != 2 || n != 1 {
		t.Errorf("%d lines in the old file, %d in the new one", old, n)
	}
}

// Nothing is lost or twice, whatever is put in force under traffic.
func TestReloadsUnderTrafficLoseNoLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	l := New("", discard())
	settings := Settings{Enabled: true, Destination: file, Format: "json", Sample: 1}
	apply(t, l, settings)
	const clients, requests = 4, 400
	var traffic sync.WaitGroup
	for client := range clients {
		traffic.Go(func() {
			for i := range requests {
				a := healthy()
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
			t.Fatalf("twice: %v", fields)
		}
		seen[fields["request_bytes"]] = true
	}
	if len(seen)+int(l.Dropped()) != clients*requests {
		t.Errorf("%d lines, %d dropped, of %d", len(seen), l.Dropped(), clients*requests)
	}
}

func TestOffAndDiscardedChangeNothing(t *testing.T) {
	l := New("", discard())
	defer l.Close()
	if l.Enabled() {
		t.Error("on by itself")
	}
	l.Log(healthy())
	change, err := l.Prepare(Settings{Enabled: true, Destination: filepath.Join(t.TempDir(), "access.log"), Format: "text", Sample: 1})
	if err != nil {
		t.Fatal(err)
	}
	change.Discard()
	if l.Enabled() {
		t.Error("on by a change that was discarded")
	}
	if _, err := l.Prepare(Settings{Enabled: true, Destination: filepath.Join(t.TempDir(), "no", "folder")}); err == nil {
		t.Error("a file in no folder was opened")
	}
}
