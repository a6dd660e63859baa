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
	maxBuffered  = 1 << 20                // of pending lines
	retryPause   = 250 * time.Millisecond // before a failed write is retried
	maxPipeWrite = 4096                   // written to a pipe atomically (PIPE_BUF)
	flushTimeout = 2 * time.Second        // for pending lines when a destination is closed
)

var errClosed = errors.New("access log: the destination is closed")

// sink writes lines to one destination on its own goroutine, so that a full disk or a blocked pipe delays nothing else. It is
// safe for concurrent use.
type sink struct {
	file    *os.File
	shared  bool // not a regular file, so other processes may write to it, too
	logger  *slog.Logger
	dropped *atomic.Uint64
	ready   chan struct{} // holds a token while there is something to do
	done    chan struct{} // closed when run has ended
	before  *sink         // the previous sink of the same file, or nil

	mu      sync.Mutex // guards the fields below
	waiting []byte     // whole lines
	busy    int        // bytes that are being written
	closing bool
	stop    chan struct{} // closed when the remaining lines must be dropped
}

func newSink(f *os.File, logger *slog.Logger, dropped *atomic.Uint64) *sink {
	info, err := f.Stat()
	s := &sink{file: f, shared: err != nil || !info.Mode().IsRegular(), logger: logger, dropped: dropped,
		ready: make(chan struct{}, 1), done: make(chan struct{}), stop: make(chan struct{})}
	go s.run()
	return s
}

// Write queues one line, or drops and counts it if the buffer is full. It never blocks. After close it returns errClosed and
// does not count the line.
func (s *sink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return 0, errClosed
	}
	if len(s.waiting)+s.busy+len(line) > maxBuffered {
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

// run writes pending lines until close.
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
			s.endPartialLine()
		}
		if lost := s.write(batch); len(lost) > 0 {
			s.truncatePartialLine(batch[:len(batch)-len(lost)])
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

// awaitBefore waits until the previous sink of the same file is done, for at most its flush timeout, as its write may hang.
func (s *sink) awaitBefore() {
	if s.before == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout+retryPause)
	defer cancel()
	s.before.flushed(ctx)
	s.before = nil
}

// endPartialLine ends an incomplete last line, which a killed process may leave.
func (s *sink) endPartialLine() {
	if !s.shared && s.endsInPartialLine() {
		s.write([]byte{'\n'})
	}
}

// endsInPartialLine reports whether the file ends in an incomplete line. It returns false if the file cannot be read.
func (s *sink) endsInPartialLine() bool {
	f, err := os.Open(s.file.Name())
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // it was only read
	own, err := s.file.Stat()
	opened, err2 := f.Stat()
	if err != nil || err2 != nil || !os.SameFile(own, opened) || opened.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], opened.Size()-1)
	return err == nil && last[0] != '\n'
}

// truncatePartialLine removes a partly written line from the end of the file, unless something was written after it.
func (s *sink) truncatePartialLine(written []byte) {
	part := len(written) - 1 - bytes.LastIndexByte(written, '\n')
	if s.shared || part == 0 {
		return
	}
	end, err := s.file.Seek(0, io.SeekCurrent)
	if info, err2 := s.file.Stat(); err == nil && err2 == nil && info.Size() == end {
		_ = s.file.Truncate(end - int64(part)) // if this fails, the partial line remains
	}
}

// write writes all of batch and retries after failed writes, so that no line is left incomplete. It returns what was not
// written when stop was closed.
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
			s.logger.Warn("cannot write the access log, buffering lines and dropping them when the buffer is full", "error", err)
		}
		select {
		case <-s.stop:
			return batch
		case <-time.After(retryPause):
		}
	}
	return nil
}

// portion returns the part of batch to write at once. In a pipe it is at most PIPE_BUF bytes, so that other writers, such as
// the proxy's own log, cannot interleave.
func (s *sink) portion(batch []byte) []byte {
	if !s.shared || len(batch) <= maxPipeWrite {
		return batch
	}
	if end := bytes.LastIndexByte(batch[:maxPipeWrite], '\n'); end >= 0 {
		return batch[:end+1]
	}
	return batch[:maxPipeWrite]
}

// close stops accepting lines. Pending ones are written in the background, within flushTimeout.
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

// isDone reports whether run has ended.
func (s *sink) isDone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// flushed waits until run has ended or ctx is done.
func (s *sink) flushed(ctx context.Context) {
	select {
	case <-s.done:
	case <-ctx.Done():
	}
}
