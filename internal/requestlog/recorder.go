// Package requestlog records what is sent to the client of a request that is logged or traced.
package requestlog

import (
	"net/http"
	"time"

	"cbproxy/internal/events"
)

// Recorder is the ResponseWriter of a request that is logged or traced. It is not safe for concurrent use: its users serialize the
// request's goroutine, the timer of a header section, flushes and interim responses.
type Recorder struct {
	http.ResponseWriter
	// Span is the request's span; nil: it is not traced.
	Span events.RequestSpan
	// Record is what is known of the request so far.
	Record events.AccessRecord

	log    events.AccessLog // nil: the request is not logged
	bodies bool             // what is written is sent: the request is not HEAD
}

// New returns a Recorder around w of a request with a raw path. It records what is known at the start, without copying. log and tracer may
// be nil.
func New(w http.ResponseWriter, r *http.Request, path string, log events.AccessLog, tracer events.Tracer) *Recorder {
	rec := &Recorder{ResponseWriter: w, log: log, bodies: r.Method != http.MethodHead}
	a := &rec.Record
	a.Arrived = time.Now()
	a.Method, a.Path, a.Query, a.Protocol, a.Client, a.Host = r.Method, path, r.URL.RawQuery, r.Proto, r.RemoteAddr, r.Host
	if agents := r.Header["User-Agent"]; len(agents) > 0 {
		a.UserAgent = agents[0]
	}
	if tracer != nil {
		rec.Span = tracer.Request(a, r.Header)
		a.TraceID, a.SpanID = rec.Span.IDs()
	}
	return rec
}

// WriteHeader implements http.ResponseWriter.
func (rec *Recorder) WriteHeader(status int) {
	if a := &rec.Record; status >= http.StatusOK && a.Status == 0 {
		a.Status, a.Header = status, time.Since(a.Arrived)
	}
	rec.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (rec *Recorder) Write(p []byte) (int, error) {
	if a := &rec.Record; a.Status == 0 {
		a.Status, a.Header = http.StatusOK, time.Since(a.Arrived)
	}
	n, err := rec.ResponseWriter.Write(p)
	if rec.bodies {
		rec.Record.ResponseBytes += int64(n)
	}
	return n, err
}

// Unwrap implements the method that http.ResponseController calls.
func (rec *Recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// AddUpstreamTime adds the time since start to the time spent on the upstream.
func (rec *Recorder) AddUpstreamTime(start time.Time) { rec.Record.Upstream += time.Since(start) }

// ReportUnrouted logs and traces a request that was answered without a route.
func (rec *Recorder) ReportUnrouted() {
	rec.Record.Duration = time.Since(rec.Record.Arrived)
	rec.report()
}

// Report logs and traces a request with its outcome. truncated means that the response ended early. requestBytes is how much of its body
// was read.
func (rec *Recorder) Report(outcome *events.Outcome, truncated bool, requestBytes int64) {
	rec.Record.Outcome, rec.Record.Truncated, rec.Record.RequestBytes = *outcome, truncated, requestBytes
	rec.report()
}

// ReportTunnel is Report for a request whose connection was switched to another protocol at opened. The numbers of bytes are those of the
// tunnel.
func (rec *Recorder) ReportTunnel(outcome *events.Outcome, opened time.Time, requestBytes, responseBytes int64) {
	a := &rec.Record
	a.Status = http.StatusSwitchingProtocols // ReverseProxy does not write it to the ResponseWriter
	a.ResponseBytes, a.Header = responseBytes, opened.Sub(a.Arrived)
	rec.Report(outcome, a.Truncated, requestBytes)
}

func (rec *Recorder) report() {
	if rec.log != nil {
		rec.log.Log(&rec.Record)
	}
	if rec.Span != nil {
		rec.Span.End(&rec.Record)
	}
}
