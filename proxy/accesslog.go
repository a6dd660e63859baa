package proxy

import (
	"net/http"
	"time"

	"cbproxy/internal/events"
)

// accessRecorder is the ResponseWriter of a request that is logged or traced. It records what is sent to the client. Its
// callers never use it at the same time: response.Writer and attempt.interimMu serialize the request's goroutine, the timer of a
// header section, ReverseProxy's flushes and interim responses.
type accessRecorder struct {
	http.ResponseWriter
	log    events.AccessLog   // nil: the request is not logged
	span   events.RequestSpan // nil: it is not traced
	bodies bool               // what is written is sent: the request is not HEAD
	access events.AccessRecord
}

// withRecorder returns an accessRecorder around w, for a request that is logged or traced. It records what is known at the start,
// without copying.
func (s *Server) withRecorder(w http.ResponseWriter, r *http.Request, path string) http.ResponseWriter {
	rec := &accessRecorder{ResponseWriter: w, bodies: r.Method != http.MethodHead}
	if s.logsRequests() {
		rec.log = s.access
	}
	a := &rec.access
	a.Arrived = time.Now()
	a.Method, a.Path, a.Query, a.Protocol, a.Client, a.Host = r.Method, path, r.URL.RawQuery, r.Proto, r.RemoteAddr, r.Host
	if agents := r.Header["User-Agent"]; len(agents) > 0 {
		a.UserAgent = agents[0]
	}
	if s.tracer != nil {
		rec.span = s.tracer.Request(a, r.Header)
		a.TraceID, a.SpanID = rec.span.IDs()
	}
	return rec
}

func (rec *accessRecorder) WriteHeader(status int) {
	if a := &rec.access; status >= http.StatusOK && a.Status == 0 {
		a.Status, a.Header = status, time.Since(a.Arrived)
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *accessRecorder) Write(p []byte) (int, error) {
	if a := &rec.access; a.Status == 0 {
		a.Status, a.Header = http.StatusOK, time.Since(a.Arrived)
	}
	n, err := rec.ResponseWriter.Write(p)
	if rec.bodies {
		rec.access.ResponseBytes += int64(n)
	}
	return n, err
}

// Unwrap implements the method that http.ResponseController calls.
func (rec *accessRecorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// reportUnrouted logs and traces a request that was answered without a route.
func (rec *accessRecorder) reportUnrouted() {
	rec.access.Duration = time.Since(rec.access.Arrived)
	rec.report()
}

// logInvalidRequest logs a request that the HTTP server has answered itself, because its header section is malformed or
// ambiguous. Only the client's address is known.
func (s *Server) logInvalidRequest(client string, status int) {
	if log := s.access; log != nil && log.Enabled() {
		log.Log(&events.AccessRecord{Arrived: time.Now(), Client: client, Status: status})
	}
}

// addUpstreamTime adds the time since start to the time spent on the upstream.
func (rec *accessRecorder) addUpstreamTime(start time.Time) { rec.access.Upstream += time.Since(start) }

// exchangeEnded reports an exchange with its outcome.
func (rec *accessRecorder) exchangeEnded(x *exchange, cut bool) {
	a := &rec.access
	a.Outcome, a.Truncated = x.outcome, cut
	a.RequestBytes = x.upload.BytesRead()
	if t := x.tunnel.Load(); t != nil {
		a.Status = http.StatusSwitchingProtocols // ReverseProxy does not write it to the ResponseWriter
		a.RequestBytes, a.ResponseBytes = t.BytesWritten(), t.BytesRead()
		a.Header = t.Opened.Sub(a.Arrived)
	}
	rec.report()
}

func (rec *accessRecorder) report() {
	if rec.log != nil {
		rec.log.Log(&rec.access)
	}
	if rec.span != nil {
		rec.span.End(&rec.access)
	}
}
