package proxy

import (
	"net/http"
	"sync"
	"time"
)

// headerDelay is how long the header section of a stream without a first byte is held back: most early ends come sooner.
const headerDelay = 10 * time.Millisecond

// responseWriter is what ReverseProxy writes an upstream's response to. It holds back the status and the header section until
// there is a byte of the body, a stream has been silent for headerGrace, or the response ends: a response that breaks off
// before that can be replaced. Safe for concurrent use, as ReverseProxy flushes on a goroutine of its own.
type responseWriter struct {
	http.ResponseWriter
	body *responseBody // the response's, if it is started

	mu          sync.Mutex // guards the fields below, and the use of ResponseWriter until the header section is sent
	status      int        // that is held back; 0: there is none
	committed   bool
	stopped     bool        // no more of the response is sent
	headerTimer *time.Timer // sends the header section; nil: not set
}

func (w *responseWriter) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if status < http.StatusOK || w.committed {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.status = status
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.commit()
	return w.ResponseWriter.Write(p)
}

// FlushError implements the method that http.ResponseController calls.
func (w *responseWriter) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status != 0 && !w.committed && w.body.isSilent() {
		if w.headerTimer == nil {
			w.headerTimer = time.AfterFunc(headerDelay, w.flushHeader)
		}
		return nil
	}
	w.commitLocked()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap implements the method that http.ResponseController calls.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// flushHeader sends the header section of a stream that is silent.
func (w *responseWriter) flushHeader() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped && !w.committed {
		w.commitLocked()
		_ = http.NewResponseController(w.ResponseWriter).Flush() // after an error the next write fails as well
	}
}

// commit sends the header section if it is held back.
func (w *responseWriter) commit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commitLocked()
}

func (w *responseWriter) commitLocked() {
	if w.status != 0 && !w.committed && !w.stopped {
		w.committed = true
		w.ResponseWriter.WriteHeader(w.status)
	}
}

func (w *responseWriter) isCommitted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.committed
}

// stop prevents that a header section which is held back is sent later, and reports whether one is. It may be called again.
func (w *responseWriter) stop() (held bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.headerTimer != nil {
		w.headerTimer.Stop()
	}
	return w.status != 0 && !w.committed
}
