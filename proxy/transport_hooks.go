package proxy

import (
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"

	"cbproxy/internal/http1"
	"cbproxy/internal/message"
	"cbproxy/internal/upstream"
)

// setTransportHooks sets the functions of trace to the attempt's, for http.Transport. If the exchange has one attempt, trace is
// the one that ReverseProxy made for the request: httptrace composes a second one by reflection.
func (a *attempt) setTransportHooks(trace *httptrace.ClientTrace) {
	trace.GotConn = func(info httptrace.GotConnInfo) {
		if a.replays.Connected() && info.Reused && a.closeIdleOnReplay(info.Conn) {
			return
		}
		a.GotConn(info.Conn)
	}
	trace.Got1xxResponse = a.Got1xxResponse
	if !a.x.upload.Exists() {
		return
	}
	trace.GotFirstResponseByte = a.GotFirstResponseByte
	if a.x.upload.ExpectsContinue() {
		// A body that the upstream refuses in advance is not sent (RFC 9110, section 10.1.1).
		trace.Got100Continue = func() { a.gotContinue.Store(true) }
	}
}

var _ http1.Hooks = (*attempt)(nil)

// closeIdleOnReplay makes a replay use a new connection. http.Transport sends a request again when an idle connection turns out
// to be closed; the other idle connections probably are closed as well. It closes conn before the first byte is written, and
// the transport then takes another one. It reports whether it has closed conn: not if other requests share it.
func (a *attempt) closeIdleOnReplay(conn net.Conn) bool {
	c, multiplexed := a.lease.Pool.ConnBelowTLS(conn)
	if !multiplexed {
		_ = c.Close()
	}
	return !multiplexed
}

// GotConn implements http1.Hooks. It applies the limit on replays.
func (a *attempt) GotConn(conn net.Conn) {
	c, multiplexed := a.lease.Pool.ConnBelowTLS(conn)
	pooled, ok := c.(*upstream.Conn) // not ok: a connection of the fast path
	a.conn, a.multiplexed = pooled, multiplexed
	a.trace.Connected(c)
	err := a.replays.GotConn(multiplexed)
	if err != nil {
		a.cancel(err)
	}
	if !ok || multiplexed {
		return
	}
	switch {
	case err != nil:
		_ = c.Close() // before the first byte is written
	case a.x.upload.Exists():
		pooled.BeginRequest(a.connEndedDuringUpload)
	default:
		pooled.BeginRequest(nil)
	}
}

// GotFirstResponseByte records that the upstream has begun to respond.
func (a *attempt) GotFirstResponseByte() { a.gotFirstByte.Store(true) }

// maxInterim limits the interim responses to a client in bytes, of which each counts at least minInterim. They are written by
// the goroutine that reads all responses on an HTTP/2 connection, so they must fit into the buffers of a client that reads
// nothing.
const (
	maxInterim = 16 << 10
	minInterim = 256
)

// Got1xxResponse sends an interim response to the client, up to maxInterim.
func (a *attempt) Got1xxResponse(code int, header textproto.MIMEHeader) error {
	if a.conn != nil {
		a.conn.RestoreInterimFields(http.Header(header))
	}
	if a.x.r.Proto != "HTTP/1.1" {
		// RFC 9110, section 15.2: none to HTTP/1.0. And net/http's HTTP/2 server may still read the header map that
		// ReverseProxy clears, if the client disconnects at that moment.
		return nil
	}
	a.interimMu.Lock()
	defer a.interimMu.Unlock()
	if a.returned || a.isHedged {
		return nil
	}
	upstream.RemoveHopByHop(http.Header(header))
	message.RemoveProxyResponseFields(http.Header(header))
	if a.x.interimBytes += minInterim + message.FieldsSize(http.Header(header)); a.x.interimBytes > maxInterim {
		return nil
	}
	return a.x.sendInterim(code, header)
}
