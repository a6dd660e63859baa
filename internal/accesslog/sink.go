package accesslog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	bufferBytes  = 1 << 20                // of lines that wait to be written
	retryPause   = 250 * time.Millisecond // before a write that failed is tried again
	pipeBytes    = 4096                   // go into a pipe together (PIPE_BUF)
	flushTimeout = 2 * time.Second        // for what waits when a destination is closed
)

var errClosed = errors.New("access log: the destination is closed")

// sink writes lines to one destination on a goroutine of its own, which is the only one that
// a full disk or a blocked pipe can hold up. Safe for concurrent use.
type sink struct {
	file    *os.File
	shared  bool // others may write there as well, and not by appending to a file
	logger  *slog.Logger
	dropped *atomic.Uint64
	ready   chan struct{} // holds a token while there is something to do
	done    chan struct{} // closed when all is written that could be
	before  *sink         // writes to the same file until it is done; nil: nobody does

	mu      sync.Mutex // guards what follows
	waiting []byte     // whole lines
	busy    int        // bytes that are being written
	closing bool
	stop    chan struct{} // closed when it is time to give up
}

func newSink(f *os.File, logger *slog.Logger, dropped *atomic.Uint64) *sink {
	info, err := f.Stat()
	s := &sink{file: f, shared: err != nil || !info.Mode().IsRegular(), logger: logger, dropped: dropped,
		ready: make(chan struct{}, 1), done: make(chan struct{}), stop: make(chan struct{})}
	go s.run()
	return s
}

// Write takes one line, or drops and counts it; it never waits. The error is errClosed, and
// then the line counts for nothing.
func (s *sink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return 0, errClosed
	}
	if len(s.waiting)+s.busy+len(line) > bufferBytes {
		s.dropped.Add(1)
		return len(line), nil
	}
	s.waiting = append(s.waiting, line...)
	s.wake()
	return len(line), nil
}

func (s *sink) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// run writes what waits, until close.
func (s *sink) run() {
	defer close(s.done)
	defer func() { _ = s.file.Close() }() // nothing is buffered in it
	var batch []byte
	begun := false
	for {
		<-s.ready
		s.awaitBefore()
		s.mu.Lock()
		batch, s.waiting = s.waiting, batch[:0]
		s.busy = len(batch)
		closing := s.closing
		s.mu.Unlock()
		if !begun && len(batch) > 0 {
			begun = true
			s.endTornLine()
		}
		if lost := s.write(batch); len(lost) > 0 {
			s.takeBack(batch[:len(batch)-len(lost)])
			s.dropped.Add(uint64(bytes.Count(lost, []byte{'\n'})))
		}
		s.mu.Lock()
		s.busy = 0
		s.mu.Unlock()
		if closing {
			return // nothing was added since
		}
	}
}

// awaitBefore waits until the sink before is done, unless that hangs in a write.
func (s *sink) awaitBefore() {
	if s.before == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout+retryPause)
	defer cancel()
	s.before.flushed(ctx)
	s.before = nil
}

// endTornLine ends a line of which the file has only a part, as a process that was killed may leave it.
func (s *sink) endTornLine() {
	if !s.shared && s.isTorn() {
		s.write([]byte{'\n'})
	}
}

// isTorn reports whether the file ends within a line, as far as it can be read.
func (s *sink) isTorn() bool {
	f, err := os.Open(s.file.Name())
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // it was only read
	this, err := s.file.Stat()
	that, err2 := f.Stat()
	if err != nil || err2 != nil || !os.SameFile(this, that) || that.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], that.Size()-1)
	return err == nil && last[0] != '\n'
}

// takeBack removes the beginning of a line whose rest is given up from the end of the file, unless somebody
// has written behind it.
func (s *sink) takeBack(written []byte) {
	part := len(written) - 1 - bytes.LastIndexByte(written, '\n')
	if s.shared || part == 0 {
		return
	}
	end, err := s.file.Seek(0, io.SeekCurrent)
	if info, err2 := s.file.Stat(); err == nil && err2 == nil && info.Size() == end {
		_ = s.file.Truncate(end - int64(part)) // or else it stays
	}
}

// write writes all of batch and goes on where a write has failed, so that no line is torn. It
// returns what it could not write until it was told to give up.
func (s *sink) write(batch []byte) (lost []byte) {
	failed := false
	for len(batch) > 0 {
		n, err := s.file.Write(s.portion(batch))
		batch = batch[n:]
		if err == nil {
			continue
		}
		if !failed {
			failed = true
			s.logger.Warn("the access log can't be written, its lines wait and are dropped when they are too many", "error", err)
		}
		select {
		case <-s.stop:
			return batch
		case <-time.After(retryPause):
		}
	}
	return nil
}

// portion returns what of batch is written at once: what others write to the same pipe, the
// proxy's own log among them, must not come into the middle of a line.
func (s *sink) portion(batch []byte) []byte {
	if !s.shared || len(batch) <= pipeBytes {
		return batch
	}
	if end := bytes.LastIndexByte(batch[:pipeBytes], '\n'); end >= 0 {
		return batch[:end+1]
	}
	return batch[:pipeBytes]
}

// close takes no more lines. What waits is written in the background, within flushTimeout.
func (s *sink) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	s.closing = true
	_ = s.file.SetWriteDeadline(time.Now().Add(flushTimeout)) // of a pipe; a file has none
	time.AfterFunc(flushTimeout, func() { close(s.stop) })
	s.wake()
}

// isDone reports whether there is nothing left to be written.
func (s *sink) isDone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// flushed waits until what waited at close is written, or given up, but not longer than ctx, as it may
// hang in a write.
func (s *sink) flushed(ctx context.Context) {
	select {
	case <-s.done:
	case <-ctx.Done():
	}
}
