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

// errStatus is a failing status that a fallback answers for.
var errStatus = errors.New("the upstream's status is a failure")

// RoundTrip asks the upstream, as often as the route's retries allow, and judges its
// answers. An error means that the client has been given nothing yet.
func (rt *route) RoundTrip(out *http.Request) (*http.Response, error) {
	x := exchangeOf(out.Context())
	x.informational = httptrace.ContextClientTrace(out.Context()).Got1xxResponse
	if rec := x.record(); rec != nil {
		defer rec.asked(time.Now())
	}
	var res *http.Response
	var err error
	if out.Body != nil {
		out.Body = &x.upload // bare: its Close must be heard
		if x.replay != nil {
			out.Body, _ = x.replay.nextReader() // nothing has been read yet
		}
	}
	if x.retries == nil {
		res, err = x.attempt.ask(out)
	} else {
		res, err = x.askRepeatedly(out)
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
	rt.sign(h, x.outcome.State) // here, where the upstream's Connection field can't strip it
	if x.upload.left() && x.r.ProtoMajor == 1 {
		h["Connection"] = []string{"close"} // what is left of the upload must not be read as a request
	}
	if _, ok := res.Header["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http guesses one
	}
	if res.Body == http.NoBody || res.Body == &x.buffered {
		handOver(h, res)
	}
	return res, nil
}

// handOver moves the fields of a response that is there as a whole to h, where ReverseProxy would copy them one by one.
// It looks at those of others, for whether to flush.
func handOver(h http.Header, res *http.Response) {
	for name, values := range res.Header {
		h[name] = values // nothing of its own has the name of anything of the upstream's
	}
	res.Header = nil
}

const (
	// maxCrossed is how often a request is sent again that had its connection closed by another one's cancellation.
	// Where many clients leave, the next connection, the one given back last, may well be taken away likewise.
	maxCrossed = 8
	// unprocessedBackoff is waited before the third and each later time.
	unprocessedBackoff = time.Second
)

// ask sends the attempt's request and judges the answer.
func (a *attempt) ask(out *http.Request) (*http.Response, error) {
	out = a.traced(out)
	if a.call.State == events.HalfOpen {
		a.x.route.pool.Renew() // connections from before the failure must not decide recovery
	}
	res, err := a.roundTrip(out)
	repeatable := out.Body == nil && (out.Method == http.MethodGet || out.Method == http.MethodHead)
	for n := 0; n < maxCrossed && a.crossed(err) && repeatable; n++ {
		a.conns = 0 // which were no replays, and nothing is known of the others
		res, err = a.roundTrip(out)
	}
	for n := 1; n < upstream.MaxUnprocessed && upstream.Unprocessed(err) && a.cause() == nil && a.rewind(&out, n); n++ {
		res, err = a.roundTrip(out)
	}
	if err != nil {
		a.blame(err)
		return nil, err
	}
	if a.shared && out.Body != nil {
		a.unwatch = upstream.CloseBodyWith(a, res)
	}
	protocol := a.cleanHeader(res)
	if err := a.judge(res, protocol, out.Header.Get("Upgrade")); err != nil {
		_ = res.Body.Close() // nothing of it is wanted
		return nil, err
	}
	return res, nil
}

// rewind replaces out by the same request with its body from the start, after it has been sent n times. It reports false
// if that can't be: the body is not kept, or the exchange is over before the next time. http.Transport itself sends
// a request without a body again.
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

// hook makes trace tell the attempt, for http.Transport. For an exchange with one attempt that is the trace which
// ReverseProxy made for the request: a second one would be composed with it by reflection.
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
	if a.x.upload.over != nil {
		// A body that the upstream refuses before it is sent is kept back (RFC 9110, section 10.1.1).
		trace.Got100Continue = func() { a.wanted.Store(true) }
	}
}

var _ http1.Hooks = (*attempt)(nil)

// refuseIdle makes a replay use a new connection: http.Transport sends a request again when an idle connection turns out to
// be closed, and its others probably are closed as well. It closes conn before the first byte is written, whereupon
// the transport takes another one, and reports whether it did: not if other requests share conn.
func (a *attempt) refuseIdle(conn net.Conn) bool {
	c, shared := a.x.route.pool.Unwrap(conn)
	if !shared {
		_ = c.Close()
	}
	return !shared
}

// GotConn allows one replay in all attempts. http.Transport knows no limit: it goes through a whole pool
// of closed connections with a single request. Over HTTP/2 it sends again what the upstream has not processed.
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
	case !known: // it is of internal/http1
	case a.x.upload.body != nil:
		u.BeginRequest(a.lost)
	default:
		u.BeginRequest(nil)
	}
}

// GotFirstResponseByte notes that the upstream has begun to answer.
func (a *attempt) GotFirstResponseByte() { a.answered.Store(true) }

// maxInterim bounds the interim responses to a client in bytes, of which each counts at least leastInterim. They are written
// by the goroutine that reads for all requests on a connection of HTTP/2: so few bytes fit into the buffers of a client
// that reads nothing.
const (
	maxInterim   = 16 << 10
	leastInterim = 256
)

// Got1xxResponse passes an interim response on, unless the client has had enough of them.
func (a *attempt) Got1xxResponse(code int, header textproto.MIMEHeader) error {
	if a.conn != nil {
		a.conn.RestoreInterimFields(http.Header(header))
	}
	if a.x.r.Proto != "HTTP/1.1" {
		// RFC 9110, section 15.2: none to HTTP/1.0. And net/http's HTTP/2 server may still
		// read the header map that ReverseProxy clears, if the client leaves at that moment.
		return nil
	}
	a.informing.Lock()
	defer a.informing.Unlock()
	if a.over {
		return nil
	}
	upstream.RemoveHopByHop(http.Header(header))
	message.RemoveSignals(http.Header(header))
	if a.x.interim += leastInterim + message.FieldsSize(http.Header(header)); a.x.interim > maxInterim {
		return nil
	}
	return a.x.informational(code, header)
}

// judge decides what the upstream's response says of it, as far as its header section
// tells, and sets up how its body is judged. upgrade is the protocol that the upstream was asked
// to switch to, protocol what its response names.
func (a *attempt) judge(res *http.Response, protocol, upgrade string) error {
	x := a.x
	a.asked, a.status, a.retryAfter = res.Request.Header, res.StatusCode, res.Header.Get("Retry-After")
	a.trace.answered(res)
	if res.StatusCode == http.StatusSwitchingProtocols {
		return a.judgeUpgrade(res, protocol, upgrade)
	}
	if res.StatusCode < 200 {
		err := fmt.Errorf("malformed response: status %03d", res.StatusCode)
		a.failed(events.ErrorProtocol, err)
		return err
	}
	switch {
	case isLoop(res) && x.r.Header["Via"] != nil:
		a.cancelled() // the client may have made a proxy behind this one believe in a loop
	case res.StatusCode == http.StatusRequestTimeout && x.upload.stalls(): // the client's doing
	case x.route.config.Breaker.FailureStatuses.Has(res.StatusCode):
		a.failed(events.ErrorStatus, fmt.Errorf("status %d", res.StatusCode))
		if x.route.answersFor(events.ReasonStatus) {
			return errStatus
		}
	}
	stream := isStream(res)
	if x.grpc != nil && grpc.Is(res.Header) {
		a.judgeGRPC(res.Header)
		stream = stream || res.Body != http.NoBody
	}
	var lesson fallbacks.Recorder
	if x.route.chain != nil && x.grpc == nil && a.failure == nil {
		lesson = x.route.chain.Record(example{a}, res.StatusCode, res.Header)
	}
	switch {
	case res.Body == http.NoBody || x.r.Method == http.MethodHead:
		a.succeeded()
		learnt(lesson)
		return nil
	case !stream && res.ContentLength <= int64(x.route.config.ResponseBuffer):
		return a.readWhole(res, lesson)
	case stream:
		return a.judgeStream(res, lesson)
	}
	x.download.begin(a, res, lesson)
	res.Body = &x.download
	return nil
}

// learnt tells that the whole body, of which parts are the last ones, was good.
func learnt(lesson fallbacks.Recorder, parts ...[]byte) {
	if lesson == nil {
		return
	}
	for _, part := range parts {
		lesson.Write(part)
	}
	lesson.Done()
}

// judgeUpgrade: a tunnel has no end to wait for, and its start proves the upstream alive.
func (a *attempt) judgeUpgrade(res *http.Response, protocol, upgrade string) error {
	x := a.x
	if upgrade == "" || !strings.EqualFold(upgrade, protocol) {
		err := fmt.Errorf("malformed response: status 101 to %q, asked for %q", protocol, upgrade)
		a.failed(events.ErrorProtocol, err)
		return err
	}
	c, ok := res.Body.(io.ReadWriteCloser)
	if !ok { // http.Transport says that it always is
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

// cleanTrailer deletes from the response's trailers what belongs to the connection, or to the proxy. It is called when the
// announced ones are known, and again when all are.
func (a *attempt) cleanTrailer(res *http.Response) {
	upstream.RemoveHopByHopTrailers(res.Trailer, a.hopByHop)
	message.RemoveSignals(res.Trailer)
}
