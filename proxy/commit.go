package proxy

import (
	"net/http"
	"sync"
	"time"
)

// headerGrace is for how long the header section of a stream that has sent nothing yet is kept back: what breaks off at once
// does so before.
const headerGrace = 10 * time.Millisecond

// responseWriter is what ReverseProxy writes an upstream's response to. It keeps the status and the header section back
// until there is a byte to send behind them, a stream has been silent for headerGrace, or the response ends: what breaks
// off before can still be answered for. Safe for concurrent use, as ReverseProxy flushes on a goroutine of its own.
type responseWriter struct {
	http.ResponseWriter
	body *responseBody // the response's, if it is started

	mu        sync.Mutex // guards what follows, and the use of ResponseWriter until the header section is sent
	status    int        // that is kept back; 0: none is
	committed bool
	stopped   bool        // nothing of the response is sent any more
	grace     *time.Timer // sends the header section; nil: it is not to be sent yet
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

// FlushError is for http.ResponseController.
func (w *responseWriter) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status != 0 && !w.committed && w.body.silent() {
		if w.grace == nil {
			w.grace = time.AfterFunc(headerGrace, w.flushHeader)
		}
		return nil
	}
	w.commitLocked()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// flushHeader sends the header section of a stream that goes on in silence.
func (w *responseWriter) flushHeader() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped && !w.committed {
		w.commitLocked()
		_ = http.NewResponseController(w.ResponseWriter).Flush() // the next write fails as well
	}
}

// commit hands the header section on, if one is kept back.
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

// stop sends nothing more, and reports whether a header section is still kept back.
func (w *responseWriter) stop() (kept bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.grace != nil {
		w.grace.Stop()
	}
	return w.status != 0 && !w.committed
}

// answerInstead answers in place of a response that broke off before anything of it was sent, and reports whether it did:
// not if the client is gone.
func (x *exchange) answerInstead() bool {
	if !x.writer.stop() || x.attempt == nil || x.r.Context().Err() != nil {
		return false
	}
	x.clock.Stop()
	clear(x.w.Header())
	return x.answerFailure()
}
