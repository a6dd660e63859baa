package proxy

import (
	"net/http"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/problem"
)

// record is the ResponseWriter of a request that is logged or traced: it notes what the client is
// given. It is used by the request's goroutine, and by the one that passes on interim
// responses, never at once.
type record struct {
	http.ResponseWriter
	log    events.AccessLog   // nil: the request is not logged
	span   events.RequestSpan // nil: it is not traced
	bodies bool               // what is written is sent: the request is no HEAD
	access events.AccessRecord
}

// recorded returns the writer to use in w's place, which is w itself if nobody wants to know
// of the request. It notes what is known at the start, and copies none of it.
func (s *Server) recorded(w http.ResponseWriter, r *http.Request, path string) http.ResponseWriter {
	log := s.config.Access
	if log != nil && !log.Enabled() {
		log = nil
	}
	if log == nil && s.config.Tracer == nil {
		return w
	}
	rec := &record{ResponseWriter: w, log: log, bodies: r.Method != http.MethodHead}
	a := &rec.access
	a.Arrived = time.Now()
	a.Method, a.Path, a.Query, a.Protocol, a.Client, a.Host = r.Method, path, r.URL.RawQuery, r.Proto, r.RemoteAddr, r.Host
	if agents := r.Header["User-Agent"]; len(agents) > 0 {
		a.UserAgent = agents[0]
	}
	if s.config.Tracer != nil {
		rec.span = s.config.Tracer.Request(a, r.Header)
		a.TraceID, a.SpanID = rec.span.IDs()
	}
	return rec
}

// record returns the exchange's record, nil if its request has none.
func (x *exchange) record() *record {
	rec, _ := x.w.(*record)
	return rec
}

func (rec *record) WriteHeader(status int) {
	if a := &rec.access; status >= http.StatusOK && a.Status == 0 {
		a.Status, a.Header = status, time.Since(a.Arrived)
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *record) Write(p []byte) (int, error) {
	if a := &rec.access; a.Status == 0 {
		a.Status, a.Header = http.StatusOK, time.Since(a.Arrived)
	}
	n, err := rec.ResponseWriter.Write(p)
	if rec.bodies {
		rec.access.ResponseBytes += int64(n)
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (rec *record) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// refused tells of a request that reached no route.
func (rec *record) refused() {
	rec.access.Duration = time.Since(rec.access.Arrived)
	rec.tell()
}

// refused logs a request that was refused before its header section was understood, or as no
// upstream could be told of it. Nothing is known of it but its sender.
func (s *Server) refused(client string, status int) {
	if log := s.config.Access; log != nil && log.Enabled() {
		log.Log(&events.AccessRecord{Arrived: time.Now(), Client: client, Status: status})
	}
}

// asked notes that the upstream was asked from start until now.
func (rec *record) asked(start time.Time) { rec.access.Upstream += time.Since(start) }

// ended tells of an exchange whose outcome is known.
func (rec *record) ended(x *exchange, cut bool) {
	a := &rec.access
	a.Outcome, a.Truncated = x.outcome, cut
	a.RequestBytes = x.upload.read.Load()
	if t := x.tunnel.Load(); t != nil {
		a.Status = http.StatusSwitchingProtocols // ReverseProxy writes it past the ResponseWriter
		a.RequestBytes, a.ResponseBytes = t.written.Load(), t.read.Load()
		a.Header = t.opened.Sub(a.Arrived)
	}
	rec.tell()
}

func (rec *record) tell() {
	if rec.log != nil {
		rec.log.Log(&rec.access)
	}
	if rec.span != nil {
		rec.span.End(&rec.access)
	}
}

// refuse answers a request that reaches no route.
func refuse(w http.ResponseWriter, p *problem.Problem) {
	p.Write(w)
	if rec, ok := w.(*record); ok {
		rec.refused()
	}
}
