// Package response has parts of the forwarding of a response: it delays the header section, so that a response that breaks off early can be
// replaced, and measures how long the client takes.
package response

import (
	"net/http"
	"sync"
	"time"
)

// headerDelay is how long the header section of a stream without a first byte is held back: most early ends come sooner.
const headerDelay = 10 * time.Millisecond

// Writer is the http.ResponseWriter of an upstream's response. It holds back the status and the header section until there is a byte
// of the body, a stream has been silent for headerDelay, or Commit is called. Init must be called first. Safe for concurrent use.
type Writer struct {
	http.ResponseWriter
	body *Body

	mu          sync.Mutex // guards the fields below, and the use of ResponseWriter until the header section is sent
	status      int        // that is held back; 0: there is none
	committed   bool
	stopped     bool        // no more of the response is sent
	headerTimer *time.Timer // sends the header section; nil: not set
}

// Init makes w a Writer to out of a response with the given body.
func (w *Writer) Init(out http.ResponseWriter, body *Body) { w.ResponseWriter, w.body = out, body }

// WriteHeader implements http.ResponseWriter.
func (w *Writer) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if status < http.StatusOK || w.committed {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.status = status
}

// Write implements http.ResponseWriter.
func (w *Writer) Write(p []byte) (int, error) {
	w.Commit()
	return w.ResponseWriter.Write(p)
}

// FlushError implements the method that http.ResponseController calls.
func (w *Writer) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status != 0 && !w.committed && w.body.IsSilent() {
		if w.headerTimer == nil {
			w.headerTimer = time.AfterFunc(headerDelay, w.flushHeader)
		}
		return nil
	}
	w.commitLocked()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap implements the method that http.ResponseController calls.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// flushHeader sends the header section of a stream that is silent.
func (w *Writer) flushHeader() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped && !w.committed {
		w.commitLocked()
		_ = http.NewResponseController(w.ResponseWriter).Flush() // after an error the next write fails as well
	}
}

// Commit sends the header section if it is held back.
func (w *Writer) Commit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commitLocked()
}

func (w *Writer) commitLocked() {
	if w.status != 0 && !w.committed && !w.stopped {
		w.committed = true
		w.ResponseWriter.WriteHeader(w.status)
	}
}

// IsCommitted reports whether the header section has been sent.
func (w *Writer) IsCommitted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.committed
}

// Stop prevents that a header section which is held back is sent later, and reports whether one is. It may be called again.
func (w *Writer) Stop() (held bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.headerTimer != nil {
		w.headerTimer.Stop()
	}
	return w.status != 0 && !w.committed
}
