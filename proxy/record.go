package proxy

import (
	"net/http"
	"time"

	"cbproxy/internal/events"
)

// record is the ResponseWriter of a request that may be logged: it notes what the client is
// given. It is used by the request's goroutine, and by the one that passes on interim
// responses, never at once.
type record struct {
	http.ResponseWriter
	log    events.AccessLog
	bodies bool // what is written is sent: the request is no HEAD
	access events.Access
}

// newRecord notes what is known of a request at its start, and copies none of it.
func newRecord(w http.ResponseWriter, r *http.Request, path string, log events.AccessLog) *record {
	rec := &record{ResponseWriter: w, log: log, bodies: r.Method != http.MethodHead}
	a := &rec.access
	a.Arrived = time.Now()
	a.Method, a.Path, a.Query, a.Protocol, a.Client = r.Method, path, r.URL.RawQuery, r.Proto, r.RemoteAddr
	if agents := r.Header["User-Agent"]; len(agents) > 0 {
		a.UserAgent = agents[0]
	}
	return rec
}

// record returns the exchange's record, nil if its request is not logged.
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

// refused logs a request that reached no route.
func (rec *record) refused() {
	rec.access.Duration = time.Since(rec.access.Arrived)
	rec.log.Log(&rec.access)
}

// asked notes that the upstream was asked from start until now.
func (rec *record) asked(start time.Time) { rec.access.Upstream += time.Since(start) }

// ended logs an exchange whose outcome is known.
func (rec *record) ended(x *exchange, cut bool) {
	a := &rec.access
	a.Outcome, a.Cut = x.outcome, cut
	a.RequestBytes = x.upload.read.Load()
	if t := x.tunnel.Load(); t != nil {
		a.Status = http.StatusSwitchingProtocols // ReverseProxy writes it past the ResponseWriter
		a.RequestBytes, a.ResponseBytes = t.written.Load(), t.read.Load()
		a.Header = t.opened.Sub(a.Arrived)
	}
	rec.log.Log(a)
}

// refuse answers a request that reaches no route.
func refuse(w http.ResponseWriter, p *problem) {
	p.write(w)
	if rec, ok := w.(*record); ok {
		rec.refused()
	}
}
