package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"

	"cbproxy/internal/events"
)

// errStatus is a failing status that a fallback answers for.
var errStatus = errors.New("the upstream's status is a failure")

// RoundTrip asks the upstream and judges its answer. An error means that the client has
// been given nothing yet.
func (rt *route) RoundTrip(out *http.Request) (*http.Response, error) {
	x := exchangeOf(out.Context())
	x.hook(httptrace.ContextClientTrace(out.Context()))
	x.outcome.Attempts++
	res, err := rt.pool.transport.RoundTrip(out)
	if x.crossed(err) && out.Body == nil && (out.Method == http.MethodGet || out.Method == http.MethodHead) {
		res, err = rt.pool.transport.RoundTrip(out)
	}
	if err != nil {
		x.blame(err)
		return nil, err
	}
	if err := x.judge(res, out.Header.Get("Upgrade")); err != nil {
		_ = res.Body.Close() // nothing of it is wanted
		return nil, err
	}
	removeSignals(res.Header)
	removeSignals(res.Trailer)
	h := x.w.Header()
	rt.sign(h, x.outcome.State) // here, where the upstream's Connection field can't strip it
	if x.upload.body != nil && !x.upload.ended.Load() && x.r.ProtoMajor == 1 {
		h["Connection"] = []string{"close"} // what is left of the upload must not be read as a request
	}
	if _, ok := res.Header["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http guesses one
	}
	x.answered = true
	return res, nil
}

// hook adds the exchange's hooks to the trace that ReverseProxy made for this one request:
// a second trace would be composed with it by reflection.
func (x *exchange) hook(trace *httptrace.ClientTrace) {
	trace.GetConn, trace.GotConn = x.getConn, x.gotConn
	informational := trace.Got1xxResponse
	trace.Got1xxResponse = func(code int, header textproto.MIMEHeader) error {
		if x.r.Proto != "HTTP/1.1" {
			// RFC 9110, section 15.2: none to HTTP/1.0. And net/http's HTTP/2 server may still
			// read the header map that ReverseProxy clears, if the client leaves at that moment.
			return nil
		}
		removeSignals(http.Header(header))
		return informational(code, header)
	}
	if x.upload.body == nil {
		return
	}
	trace.GotFirstResponseByte = func() { x.upload.answered.Store(true) }
	if x.r.Header["Expect"] != nil {
		// A body that the upstream refuses before it is sent is kept back (RFC 9110, section 10.1.1).
		trace.Got100Continue = func() { x.upload.asked.Store(true) }
		x.upload.over = x.Done()
	}
}

// getConn makes a replay use a new connection: http.Transport sends a request again when an
// idle connection turns out to be closed, and its others probably are closed as well.
func (x *exchange) getConn(string) {
	if x.conns == 1 {
		x.route.pool.transport.CloseIdleConnections()
	}
}

// gotConn allows one replay. The transport knows no limit: it goes through a whole pool of
// closed connections with a single request.
func (x *exchange) gotConn(info httptrace.GotConnInfo) {
	x.conns++
	c, shared := info.Conn, x.route.config.Upstream.Scheme == "h2c" // HTTP/2 shares a connection between requests
	if t, ok := c.(*tls.Conn); ok {
		c, shared = t.NetConn(), t.ConnectionState().NegotiatedProtocol == "h2"
	}
	u, ok := c.(*upstreamConn)
	shared = shared || !ok
	if x.conns > 2 {
		x.cancel(errReplayed)
		if !shared {
			_ = c.Close() // before the first byte is written
		}
		return
	}
	switch {
	case shared:
	case x.upload.body != nil:
		u.begin(x.lost)
	default:
		u.begin(nil)
	}
}

// judge decides what the upstream's response says of it, as far as its header section
// tells, and sets up how its body is judged. upgrade is the protocol the upstream was asked
// to switch to.
func (x *exchange) judge(res *http.Response, upgrade string) error {
	x.responded = true
	if res.StatusCode == http.StatusSwitchingProtocols {
		return x.judgeUpgrade(res, upgrade)
	}
	if res.StatusCode < 200 {
		err := fmt.Errorf("malformed response: status %03d", res.StatusCode)
		x.failed(events.ErrorProtocol, err)
		return err
	}
	if x.route.config.Breaker.FailureStatuses.Has(res.StatusCode) {
		x.failed(events.ErrorStatus, fmt.Errorf("status %d", res.StatusCode))
		if x.route.answersFor(events.ReasonStatus) {
			return errStatus
		}
	}
	stream := isStream(res)
	switch {
	case res.Body == http.NoBody || x.r.Method == http.MethodHead:
		x.succeeded()
		return nil
	case !stream && res.ContentLength <= int64(x.route.config.ResponseBuffer):
		return x.readWhole(res)
	case stream:
		x.clock.Stop()
		x.clock.Reset(x.route.config.IdleTimeout)
		x.idle.Store(true)
		if x.outcome.State == events.HalfOpen {
			x.succeeded() // a stream may last for ever, and its start proves the upstream alive
		}
	}
	x.download.begin(x, res, stream)
	res.Body = &x.download
	return nil
}

// judgeUpgrade: a tunnel has no end to wait for, and its start proves the upstream alive.
func (x *exchange) judgeUpgrade(res *http.Response, upgrade string) error {
	if upgrade == "" || !strings.EqualFold(upgrade, res.Header.Get("Upgrade")) {
		err := fmt.Errorf("malformed response: status 101 to %q, asked for %q", res.Header.Get("Upgrade"), upgrade)
		x.failed(events.ErrorProtocol, err)
		return err
	}
	x.clock.Stop()
	x.tunnel = true
	x.route.tunnels.Add(1)
	x.succeeded()
	return nil
}

// isStream reports whether a response's end is not known from its start.
func isStream(res *http.Response) bool {
	const events = "text/event-stream"
	t := res.Header.Get("Content-Type")
	return res.ContentLength < 0 || len(t) >= len(events) && strings.EqualFold(t[:len(events)], events)
}
