package proxy

import (
	"net/http"

	"cbproxy/internal/events"
)

// responseWriter is what ReverseProxy writes an upstream's response to. It keeps the status and the header section back
// until there is a byte to send behind them, or a flush or the response's end asks for them: what breaks off before can
// still be answered for. Like every ResponseWriter it is used by one goroutine at a time.
type responseWriter struct {
	http.ResponseWriter
	status    int // that is kept back; 0: none is
	committed bool
}

func (w *responseWriter) WriteHeader(status int) {
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
	w.commit()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// commit hands the header section on, if one is kept back.
func (w *responseWriter) commit() {
	if w.status != 0 && !w.committed {
		w.committed = true
		w.ResponseWriter.WriteHeader(w.status)
	}
}

// answerInstead answers in place of a response that broke off before anything of it was sent, and reports whether it did:
// not if the client is gone, or at fault itself.
func (x *exchange) answerInstead() bool {
	a := x.attempt
	if x.writer.status == 0 || x.writer.committed || a == nil || x.r.Context().Err() != nil {
		return false
	}
	reason := events.ReasonOverload
	switch {
	case x.outcome.Failure != nil:
		reason = reasonOf(x.outcome.Failure.Type)
	case !a.overload:
		return false
	}
	x.clock.Stop()
	clear(x.w.Header())
	x.fallback(reason)
	return true
}
