package proxy

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/httpserver"
	"cbproxy/internal/message"
	"cbproxy/internal/problem"
	"cbproxy/internal/response"
	"cbproxy/internal/upstream"
)

// roundTripper is the transport of ReverseProxy.
type roundTripper struct{}

// RoundTrip sends a request to the upstream and evaluates the response. If it returns an error, nothing has been sent to the client.
//
// A request is sent again in four cases. Only the first is a new attempt, which the breaker admits and which is counted:
//   - an attempt has failed and the route's retries allow another one: doWithRetries;
//   - the connection was closed because another request on it was cancelled: sendAgain, at most maxOtherCancels times;
//   - an HTTP/2 upstream has reported that it has not processed the request: sendAgain, at most upstream.MaxUnprocessed times in all;
//   - http.Transport finds an idle connection closed: http.Transport itself, limited to one replay by attempt.GotConn.
func (roundTripper) RoundTrip(out *http.Request) (*http.Response, error) {
	x := exchangeOf(out.Context())
	x.sendInterim = httptrace.ContextClientTrace(out.Context()).Got1xxResponse
	if x.recorder != nil {
		defer x.recorder.AddUpstreamTime(time.Now())
	}
	var res *http.Response
	var err error
	if out.Body != nil {
		out.Body = x.upload.CurrentReader() // ReverseProxy's wrapper does not pass on Close, which stops a read by AbortRead
	}
	if x.retries == nil {
		res, err = x.attempt.do(out)
	} else {
		res, err = x.doWithRetries(out)
	}
	if err != nil {
		return nil, err
	}
	x.upload.StopRetaining()
	h := x.w.Header()
	if problem.IsLoopDetected(res) {
		h["Proxy-Status"] = problem.LoopDetected.ProxyStatus()
	}
	message.RemoveProxyResponseFields(res.Header)
	x.attempt.removeTrailerFields(res)
	x.route.SetStateFields(h, x.outcome.State) // here: the upstream's Connection field must not remove these fields
	if x.upload.Incomplete() && x.r.ProtoMajor == 1 {
		h["Connection"] = []string{"close"} // the rest of the upload must not be read as a request
	}
	if _, ok := res.Header["Content-Type"]; !ok {
		h["Content-Type"] = nil // otherwise net/http guesses one
	}
	if res.Body == http.NoBody || res.Body == &x.buffered {
		response.MoveHeader(h, res)
	}
	return res, nil
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
	out, err := a.prepare(out)
	if err != nil {
		a.classify(err)
		return nil, err
	}
	return a.receive(a.send(out))
}

// prepare chooses the endpoint of the attempt's request and returns the request to send to it.
func (a *attempt) prepare(out *http.Request) (*http.Request, error) {
	if err := a.chooseEndpoint(out.URL); err != nil {
		return nil, err
	}
	if a.x.recorder != nil {
		out = a.traced(out)
	}
	if a.call.State == events.HalfOpen {
		a.lease.Pool.DiscardConnections() // connections from before the failure must not decide recovery
	}
	a.fault = a.x.route.Service.Faults.Draw(a.x.r.Header)
	a.call = a.call.WithFault(a.fault != nil)
	a.trace.FaultInjected(a.fault)
	return out, nil
}

// send sends the attempt's request. It returns the request that was sent last, and its result. Of the exchange, it uses only what is safe
// for concurrent use, because a hedge may be sent at the same time.
func (a *attempt) send(out *http.Request) (*http.Request, *http.Response, error) {
	res, err := a.fault.RoundTrip(out, a.roundTrip)
	if err != nil {
		return a.sendAgain(out, err)
	}
	return out, res, nil
}

// receive evaluates the result of the attempt's request out.
func (a *attempt) receive(out *http.Request, res *http.Response, err error) (*http.Response, error) {
	if err != nil {
		a.classify(err)
		return nil, err
	}
	if a.multiplexed && out.Body != nil {
		a.stopBodyWatch = upstream.CloseBodyWith(a, res)
	}
	gotUpgrade := a.removeHopByHop(res)
	a.rewriteLocation(res)
	if err := a.evaluate(res, gotUpgrade, out.Header.Get("Upgrade")); err != nil {
		_ = res.Body.Close() // the response is replaced
		return nil, err
	}
	return res, nil
}

// sendAgain sends the attempt's request again if it has failed with err for no fault of the upstream or the request: because another
// request on its connection was cancelled, or because an HTTP/2 upstream has not processed it. It returns the request that was sent
// last, and its result.
func (a *attempt) sendAgain(out *http.Request, err error) (*http.Request, *http.Response, error) {
	var res *http.Response
	repeatable := out.Body == nil && (out.Method == http.MethodGet || out.Method == http.MethodHead)
	for n := 0; n < maxOtherCancels && a.cancelledByOther(err) && repeatable; n++ {
		a.replays.BeginAttempt() // this is no replay by http.Transport
		res, err = a.roundTrip(out)
	}
	for n := 1; n < upstream.MaxUnprocessed && upstream.Unprocessed(err) && a.cause() == nil && a.rewind(&out, n); n++ {
		res, err = a.roundTrip(out)
	}
	return out, res, err
}

// rewind replaces out by the same request with its body from the start, after it has been sent n times. It reports false if
// the body is not retained, or if the exchange ends during the backoff. A request without a body does not come here:
// http.Transport itself repeats it.
func (a *attempt) rewind(out **http.Request, n int) bool {
	if (*out).Body == nil || !a.x.upload.Replayable() || n > 1 && !a.x.sleep(unprocessedBackoff) {
		return false
	}
	body, ok := a.newBody(*out)
	if !ok {
		return false
	}
	again := **out
	again.Body = body
	*out = &again
	a.replays.BeginAttempt()
	return true
}

// roundTrip sends the attempt's request to the upstream: on the fast path if the request is plain and its body has arrived,
// and otherwise by http.Transport.
func (a *attempt) roundTrip(out *http.Request) (*http.Response, error) {
	x, p := a.x, a.lease.Pool
	if x.route.Config.Transport == "auto" && p.CanSendFast(out) && (out.Body == nil || x.bodyArrived() && x.upload.ReadArrived()) {
		res, sent, err := p.RoundTripFast(out)
		if sent {
			return res, err
		}
		if out.Body != nil {
			out.Body, _ = a.newBody(out) // all of it is retained
		}
	}
	a.setTransportHooks(httptrace.ContextClientTrace(out.Context()))
	return p.RoundTrip(out)
}

// newBody returns the body of out from its start; ok is false if that is not retained.
func (a *attempt) newBody(out *http.Request) (body io.ReadCloser, ok bool) {
	if out.GetBody == nil {
		return a.x.upload.NewReader()
	}
	body, err := out.GetBody() // of a hedge
	return body, err == nil
}

// bodyArrived reports whether reading the request's body does not block.
func (x *exchange) bodyArrived() bool {
	c, ok := httpserver.ConnOf(x.r.Context())
	return x.upload.Arrived() || ok && x.r.ProtoMajor == 1 && (x.upload.BytesRead() > 0 || c.BodyArriving())
}
