// Package accesslog writes one line per request. A line has a bounded length, is valid JSON or key=value whatever the request
// contains, and has no terminal control characters. Requests never wait for the log.
package accesslog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"cbproxy/internal/events"
)

// Settings are the settings of the log.
type Settings struct {
	Enabled bool
	// Destination is stdout, stderr, or the path of a file.
	Destination string
	// Format is json or text.
	Format string
	// Sample is the share of the routine requests that are logged, 0 to 1.
	Sample float64
	// Query includes query strings.
	Query bool
}

// Log is the access log. It is disabled until a change from Prepare is committed. It is safe for concurrent use.
type Log struct {
	instance string
	logger   *slog.Logger
	dropped  atomic.Uint64
	current  atomic.Pointer[output] // nil if the log is disabled

	mu       sync.Mutex       // guards the fields below
	standard map[string]*sink // stdout and stderr, which stay open once they are used
	retired  []*sink          // replaced files that may still have pending lines
}

// output is a destination with the settings of its lines. It is never modified.
type output struct {
	Settings
	handler slog.Handler
	sink    *sink
}

// New returns a disabled log. Every line contains instance unless it is "". The logger reports failed writes to a destination.
func New(instance string, logger *slog.Logger) *Log {
	return &Log{instance: instance, logger: logger, standard: map[string]*sink{}}
}

// Enabled implements events.AccessLog.
func (l *Log) Enabled() bool { return l.current.Load() != nil }

// Dropped returns how many lines were dropped since the start.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Log implements events.AccessLog.
func (l *Log) Log(a *events.AccessRecord) {
	out := l.current.Load()
	if out == nil || isRoutine(a) && out.Sample < 1 && rand.Float64() >= out.Sample { // #nosec G404 -- sampling needs no secure randomness
		return
	}
	for out != nil && errors.Is(handle(out.handler, a, out.Query), errClosed) {
		next := l.current.Load() // out was replaced and closed meanwhile
		if next == out {
			return
		}
		out = next
	}
}

// Change is a prepared change of the settings. Exactly one of its methods must be called.
type Change struct {
	log  *Log
	next *output // nil disables the log
}

// Prepare opens the destination of s, without any effect on the log in use.
func (l *Log) Prepare(s Settings) (*Change, error) {
	if !s.Enabled {
		return &Change{log: l}, nil
	}
	to, err := l.open(s.Destination)
	if err != nil {
		return nil, fmt.Errorf("open access_log.destination: %w", err)
	}
	return &Change{l, &output{s, newHandler(to, s.Format, l.instance), to}}, nil
}

// Commit applies the change. The previous destination is flushed and closed in the background.
func (c *Change) Commit() {
	// Two sinks that write to one file at once could interleave parts of lines, so the new one waits for the old one. Only
	// Commit replaces the output.
	if now := c.log.current.Load(); now != nil && c.next != nil && now.sink != c.next.sink && now.Destination == c.next.Destination {
		c.next.sink.before = now.sink
	}
	if before := c.log.current.Swap(c.next); before != nil {
		c.log.release(before)
	}
}

// Discard drops the change and closes the destination that Prepare opened.
func (c *Change) Discard() {
	if c.next != nil {
		c.log.release(c.next)
	}
}

// release closes the output in the background, unless it is stdout or stderr.
func (l *Log) release(o *output) {
	if o.Destination == "stdout" || o.Destination == "stderr" {
		return
	}
	o.sink.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retired = slices.DeleteFunc(append(l.retired, o.sink), (*sink).isDone)
}

// Close disables the log permanently and waits up to two seconds for pending writes.
func (l *Log) Close() {
	if before := l.current.Swap(nil); before != nil {
		l.release(before)
	}
	l.mu.Lock()
	open := append(slices.Collect(maps.Values(l.standard)), l.retired...)
	l.mu.Unlock()
	for _, s := range open {
		s.close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout+retryPause)
	defer cancel()
	for _, s := range open {
		s.flushed(ctx)
	}
}

func (l *Log) open(destination string) (*sink, error) {
	switch destination {
	case "stdout":
		return l.openStandard(destination, os.Stdout)
	case "stderr":
		return l.openStandard(destination, os.Stderr)
	}
	// O_NONBLOCK makes opening a pipe without a reader an error instead of a wait.
	f, err := os.OpenFile(destination, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("%s: must be a file, or a named pipe that has a reader: %w", destination, syscall.ENXIO)
	}
	if err != nil {
		return nil, err
	}
	return newSink(f, l.logger, &l.dropped), nil
}

// openStandard returns a sink that writes to a duplicate of f's descriptor, as a write to descriptor 1 or 2 after the reader
// has closed the pipe ends the process by SIGPIPE.
func (l *Log) openStandard(name string, f *os.File) (*sink, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.standard[name]; s != nil {
		return s, nil
	}
	file, err := duplicate(f)
	if err != nil {
		return nil, err
	}
	s := newSink(file, l.logger, &l.dropped)
	l.standard[name] = s
	return s, nil
}

func duplicate(f *os.File) (*os.File, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), f.Name()), nil
}
