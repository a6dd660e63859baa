package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	"cbproxy/internal/http1"
	"cbproxy/internal/message"
	"cbproxy/internal/upstream"
)

// errStatus means that a fallback replaces a response with a failing status.
var errStatus = errors.New("the upstream's status is a failure")

// RoundTrip sends a request to the upstream, as often as the route's retries allow, and evaluates the response. With an error,
// nothing has been sent to the client.
func (rt *route) RoundTrip(out *http.Request) (*http.Response, error) {
	x := exchangeOf(out.Context())
	x.informational = httptrace.ContextClientTrace(out.Context()).Got1xxResponse
	if rec := x.recorder(); rec != nil {
		defer rec.addUpstreamTime(time.Now())
	}
	var res *http.Response
	var err error
	if out.Body != nil {
		out.Body = &x.upload // the bare body: ReverseProxy's wrapper does not pass on Close
		if x.replay != nil {
			out.Body, _ = x.replay.nextReader() // nothing has been read yet, so there is a reader
		}
	}
	if x.retries == nil {
		res, err = x.attempt.do(out)
	} else {
		res, err = x.doWithRetries(out)
	}
	if err != nil {
		return nil, err
	}
	x.replay.forget()
	h := x.w.Header()
	if isLoop(res) {
		h["Proxy-Status"] = loopDetected.ProxyStatus()
	}
	message.RemoveSignals(res.Header)
	x.attempt.cleanTrailer(res)
	rt.sign(h, x.outcome.State) // after the upstream's Connection field has been processed, which must not remove these
	if x.upload.incomplete() && x.r.ProtoMajor == 1 {
		h["Connection"] = []string{"close"} // the rest of the upload must not be read as a request
	}
	if _, ok := res.Header["Content-Type"]; !ok {
		h["Content-Type"] = nil // otherwise net/http guesses one
	}
	if res.Body == http.NoBody || res.Body == &x.buffered {
		moveHeader(h, res)
	}
	return res, nil
}

// moveHeader moves the fields of a complete response to h, where ReverseProxy would copy them one by one. For other responses,
// ReverseProxy uses the fields to decide when to flush.
func moveHeader(h http.Header, res *http.Response) {
	for name, values := range res.Header {
		h[name] = values // the proxy's own fields have other names
	}
	res.Header = nil
}

const (
	// maxOtherCancels limits how often a request is sent again whose connection was closed by another request's cancellation.
	// When many clients leave at once, this may happen repeatedly.
	maxOtherCancels = 8
	// unprocessedBackoff is the wait before the third and each later time that an unprocessed request is sent.
	unprocessedBackoff = time.Second
)

// do sends the attempt's request and evaluates the response.
func (a *attempt) do(out *http.Request) (*http.Response, error) {
	out = a.traced(out)
	if a.call.State == events.HalfOpen {
		a.x.route.pool.Renew() // connections from before the failure must not decide recovery
	}
	res, err := a.roundTrip(out)
	repeatable := out.Body == nil && (out.Method == http.MethodGet || out.Method == http.MethodHead)
	for n := 0; n < maxOtherCancels && a.cancelledByOther(err) && repeatable; n++ {
		a.conns = 0 // these were no replays
		res, err = a.roundTrip(out)
	}
	for n := 1; n < upstream.MaxUnprocessed && upstream.Unprocessed(err) && a.cause() == nil && a.rewind(&out, n); n++ {
		res, err = a.roundTrip(out)
	}
	if err != nil {
		a.classify(err)
		return nil, err
	}
	if a.shared && out.Body != nil {
		a.stopBodyWatch = upstream.CloseBodyWith(a, res)
	}
	protocol := a.cleanHeader(res)
	if err := a.evaluate(res, protocol, out.Header.Get("Upgrade")); err != nil {
		_ = res.Body.Close() // the response is replaced
		return nil, err
	}
	return res, nil
}

// rewind replaces out by the same request with its body from the start, after it has been sent n times. It reports false if
// the body is not retained, or if the exchange ends before the next time. http.Transport itself repeats requests without a
// body.
func (a *attempt) rewind(out **http.Request, n int) bool {
	if (*out).Body == nil || a.x.replay == nil || n > 1 && !a.x.pause(unprocessedBackoff) {
		return false
	}
	body, ok := a.x.replay.nextReader()
	if !ok {
		return false
	}
	again := **out
	again.Body = body
	*out, a.conns = &again, 0
	return true
}

// hook sets the functions of trace to the attempt's, for http.Transport. If the exchange has one attempt, trace is the one
// that ReverseProxy made for the request: httptrace composes a second one by reflection.
func (a *attempt) hook(trace *httptrace.ClientTrace) {
	trace.GotConn = func(info httptrace.GotConnInfo) {
		if a.conns > 0 && info.Reused && a.refuseIdle(info.Conn) {
			return
		}
		a.GotConn(info.Conn)
	}
	trace.Got1xxResponse = a.Got1xxResponse
	if a.x.upload.body == nil {
		return
	}
	trace.GotFirstResponseByte = a.GotFirstResponseByte
	if a.x.upload.exchangeDone != nil {
		// A body that the upstream refuses in advance is not sent (RFC 9110, section 10.1.1).
		trace.Got100Continue = func() { a.gotContinue.Store(true) }
	}
}

var _ http1.Hooks = (*attempt)(nil)

// refuseIdle makes a replay use a new connection. http.Transport sends a request again when an idle connection turns out to be
// closed; the other idle connections probably are closed as well. It closes conn before the first byte is written, whereupon
// the transport takes another one, and reports whether it did: not if other requests share conn.
func (a *attempt) refuseIdle(conn net.Conn) bool {
	c, shared := a.x.route.pool.Unwrap(conn)
	if !shared {
		_ = c.Close()
	}
	return !shared
}

// GotConn allows one replay in all attempts. http.Transport has no limit: it tries all closed connections of a pool with a
// single request. Over HTTP/2 it repeats what the upstream has not processed.
func (a *attempt) GotConn(conn net.Conn) {
	a.conns++
	c, shared := a.x.route.pool.Unwrap(conn)
	u, known := c.(*upstream.Conn)
	a.conn, a.shared = u, shared
	a.trace.connected(c)
	switch {
	case shared:
		if a.conns > upstream.MaxUnprocessed {
			a.cancel(errUnprocessed)
		}
		return
	case a.conns > 1 && a.x.replayed:
		a.cancel(errReplayed)
		if known {
			_ = c.Close() // before the first byte is written
		}
		return
	}
	a.x.replayed = a.conns > 1 || a.x.replayed
	switch {
	case !known: // a connection of internal/http1
	case a.x.upload.body != nil:
		u.BeginRequest(a.uploadLost)
	default:
		u.BeginRequest(nil)
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
	if a.done {
		return nil
	}
	upstream.RemoveHopByHop(http.Header(header))
	message.RemoveSignals(http.Header(header))
	if a.x.interim += minInterim + message.FieldsSize(http.Header(header)); a.x.interim > maxInterim {
		return nil
	}
	return a.x.informational(code, header)
}

// evaluate classifies the upstream's response by its header section, and prepares the evaluation of its body. upgrade is the
// protocol in the request's Upgrade field, protocol the one in the response's.
func (a *attempt) evaluate(res *http.Response, protocol, upgrade string) error {
	x := a.x
	a.requestHeader, a.status, a.retryAfter = res.Request.Header, res.StatusCode, res.Header.Get("Retry-After")
	a.trace.answered(res)
	if res.StatusCode == http.StatusSwitchingProtocols {
		return a.evaluateUpgrade(res, protocol, upgrade)
	}
	if res.StatusCode < 200 {
		err := fmt.Errorf("malformed response: status %03d", res.StatusCode)
		a.failed(events.ErrorProtocol, err)
		return err
	}
	switch {
	case isLoop(res) && x.r.Header["Via"] != nil:
		a.cancelled() // the client may have sent the Via field that made a proxy behind this one detect a loop
	case res.StatusCode == http.StatusRequestTimeout && x.upload.isStalling(): // the client's fault
	case x.route.config.Breaker.FailureStatuses.Has(res.StatusCode):
		a.failed(events.ErrorStatus, fmt.Errorf("status %d", res.StatusCode))
		if x.route.answersFor(events.ReasonStatus) {
			return errStatus
		}
	}
	stream := isStream(res)
	if x.grpc != nil && grpc.Is(res.Header) {
		a.evaluateGRPC(res.Header)
		stream = stream || res.Body != http.NoBody
	}
	var lesson fallbacks.Recorder
	if x.route.chain != nil && x.grpc == nil && a.failure == nil {
		lesson = x.route.chain.Record(recordingClient{a}, res.StatusCode, res.Header)
	}
	switch {
	case res.Body == http.NoBody || x.r.Method == http.MethodHead:
		a.succeeded()
		recordBody(lesson)
		return nil
	case !stream && res.ContentLength <= int64(x.route.config.ResponseBuffer):
		return a.readWhole(res, lesson)
	case stream:
		return a.evaluateStream(res, lesson)
	}
	x.download.begin(a, res, lesson)
	res.Body = &x.download
	return nil
}

// recordBody ends the recording of a response. parts are the last parts of its body.
func recordBody(lesson fallbacks.Recorder, parts ...[]byte) {
	if lesson == nil {
		return
	}
	for _, part := range parts {
		lesson.Write(part)
	}
	lesson.Done()
}

// evaluateUpgrade counts a new tunnel as a success: its end may be far away.
func (a *attempt) evaluateUpgrade(res *http.Response, protocol, upgrade string) error {
	x := a.x
	if upgrade == "" || !strings.EqualFold(upgrade, protocol) {
		err := fmt.Errorf("malformed response: status 101 to %q, asked for %q", protocol, upgrade)
		a.failed(events.ErrorProtocol, err)
		return err
	}
	c, ok := res.Body.(io.ReadWriteCloser)
	if !ok { // http.Transport promises that it is one
		err := errors.New("malformed response: status 101 without a connection")
		a.failed(events.ErrorProtocol, err)
		return err
	}
	res.Header["Connection"], res.Header["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	x.openTunnel(res, c)
	a.succeeded()
	return nil
}

// cleanHeader deletes the hop-by-hop fields of the attempt's response, before anything else reads its header, and returns its
// Upgrade field.
func (a *attempt) cleanHeader(res *http.Response) (protocol string) {
	if a.conn != nil {
		a.conn.RestoreFields(res.Header)
	}
	protocol = res.Header.Get("Upgrade")
	a.hopByHop = upstream.RemoveHopByHop(res.Header)
	return protocol
}

// cleanTrailer deletes the hop-by-hop fields and the proxy's own from the response's trailers. It is called when the announced
// trailers are known, and again when all are.
func (a *attempt) cleanTrailer(res *http.Response) {
	upstream.RemoveHopByHopTrailers(res.Trailer, a.hopByHop)
	message.RemoveSignals(res.Trailer)
}
