package proxy

import (
	"context"
	"fmt"
	"net/http"
	"net/textproto"
	"runtime/debug"
	"sync/atomic"
	"time"

	"cbproxy/internal/balance"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	"cbproxy/internal/http1"
	"cbproxy/internal/lifetime"
	"cbproxy/internal/message"
	"cbproxy/internal/problem"
	"cbproxy/internal/requestlog"
	"cbproxy/internal/response"
	"cbproxy/internal/service"
	"cbproxy/internal/tunnel"
	"cbproxy/internal/upload"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// exchange is one client request on a route, and its response. It is the context of the upstream request, so that
// ReverseProxy's callbacks and the transports find it.
type exchange struct {
	lifetime.Lifetime
	idleTimerActive atomic.Bool // the timer is the idle timeout of a stream, not the time limit of the exchange

	// Not modified after serve has set them: any goroutine may read them. The fields below these are for the request's goroutine,
	// unless their type says that it is safe for concurrent use.
	server   *Server
	route    *service.Route
	w        http.ResponseWriter
	recorder *requestlog.Recorder // w, if the request is logged or traced; otherwise nil
	r        *http.Request
	// strippedPrefix is the start of the client's raw path that is not sent upstream: the route's prefix, without a slash at its end, if
	// strip_prefix is set. upstreamPath is the rest.
	strippedPrefix, upstreamPath string
	began                        time.Time
	grpc                         *grpc.Call // nil: the request is not gRPC
	isTest                       bool       // the client asks for the fallback; the request is not sent upstream and counts for nothing

	outcome events.Outcome
	permits service.Permits // of the limits on requests in flight

	// The request to the upstream.
	attempt       *attempt            // the current one; nil: no request has been sent
	singleAttempt attempt             // storage for the attempt of a request without retries, which saves an allocation
	retries       *service.Retries    // nil: there is one attempt, which has no time limit of its own
	tried         []*balance.Endpoint // those of earlier attempts
	hedging       *hedging            // nil: no hedge has been sent
	upload        upload.Body

	// The response to the client.
	retryAt        time.Time                             // when the breaker's open period ends; zero if it has none, or if the breaker admitted the request
	mustQueue      bool                                  // earlier requests are queued, and this one must not overtake them
	proxyResponded bool                                  // the header section of a response of the proxy itself, or of a tunnel, has been sent; see writer for an upstream's response
	sendInterim    func(int, textproto.MIMEHeader) error // ReverseProxy's: sends an interim response
	interimBytes   int                                   // bytes of the interim responses; guarded by an attempt's interimMu
	writer         response.Writer
	download       responseBody
	buffered       message.BufferedBody
	tunnel         atomic.Pointer[tunnel.Tunnel] // nil: the connection has not been switched to another protocol
}

type exchangeKey struct{}

// Value returns what ReverseProxy's callbacks and the transports look up in the context of the upstream request: the exchange
// itself, and how the request is to be sent. Through http1.HooksKey the transports call the attempt, see transport_hooks.go.
func (x *exchange) Value(key any) any {
	switch key := key.(type) {
	case exchangeKey:
		return x
	case upstream.ContextKey:
		switch key {
		case upstream.HTTP1Only:
			return x.r.Header["Upgrade"] != nil
		case upstream.DialDeadline:
			return x.began.Add(x.timeout())
		}
	case http1.HooksKey:
		return x.attempt
	case http1.CancelSignalKey:
		if x.retries != nil { // each attempt has a context of its own
			return nil
		}
		return x.CancelSignal()
	}
	return x.Context.Value(key)
}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// serve sends a request to the upstream if the breaker and the limits admit it, and otherwise answers with the fallback.
// The first bytes of its path, as many as stripped, are not sent upstream.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, rt *service.Route, path string, stripped int, limits routes.Limits) {
	x := &exchange{server: s, route: rt, w: w, r: r, strippedPrefix: path[:stripped], upstreamPath: path[stripped:], began: time.Now()}
	x.outcome.Service = rt.Service.Name
	if x.recorder, _ = w.(*requestlog.Recorder); x.recorder != nil {
		x.began = x.recorder.Record.Arrived // log, trace and metrics count from one moment
		x.outcome.TraceID, x.outcome.SpanID = x.recorder.Record.TraceID, x.recorder.Record.SpanID
	}
	if x.isTest = rt.Config.FallbackTest && message.AsksForFallbackTest(r.Header); !x.isTest {
		rt.Service.Observer.Begin()
	}
	defer x.finish()
	if r.ProtoMajor >= 2 {
		x.grpc = grpc.CallOf(r, x.began, rt.Config.Timeout)
	}
	if r.ContentLength != 0 {
		x.prepareUpload(limits)
	}
	if r.ContentLength > int64(limits.BodyBytes) {
		x.outcome.State = rt.Service.Breaker.State()
		x.respondInvalid(problem.BodyTooLarge)
		return
	}
	if x.isTest {
		x.respondToTest()
		return
	}
	if rt.Chain != nil && x.grpc == nil {
		if reason, queued := rt.Chain.Intercept(r.Method); queued {
			x.rejectToKeepOrder(reason)
			return
		}
	}
	call, err, ok := x.admit()
	if !ok {
		return
	}
	x.outcome.State, x.retryAt = call.State, call.RetryAt
	x.singleAttempt.call = call // for a panic before the attempt begins
	if err != nil {
		if call.State != events.Closed {
			rt.Service.NoteRejected(x.began)
		}
		x.reject(service.RejectionReason(err))
		return
	}
	if x.outcome.Shed = x.permits.Acquire(rt); x.outcome.Shed != "" {
		call.Reject()
		x.singleAttempt.call = breaker.Call{}
		x.reject(events.ReasonOverload)
		return
	}
	x.forward(call)
}

// prepareUpload sets up the request's body.
func (x *exchange) prepareUpload(limits routes.Limits) {
	x.upload.Init(upload.Config{
		Request: x.r, Writer: x.w, Start: x.began, Owner: x,
		MaxBytes: int64(limits.BodyBytes), ReadTimeout: limits.ReadHeaderTimeout,
	})
	// Without full duplex, net/http's HTTP/1 server reads up to 256 KiB of the body before it sends an early response.
	_ = http.NewResponseController(x.w).EnableFullDuplex()
	if x.grpc == nil { // no strategy uses the content of a gRPC call
		x.upload.RetainForFallback(x.route.MaxFallbackBody)
	}
}

// forward hands the request to ReverseProxy, which calls RoundTrip.
func (x *exchange) forward(call breaker.Call) {
	x.startTimer()
	x.retries = x.route.NewRetries(x.r)
	if x.upload.Exists() {
		x.prepareForward()
	}
	x.beginAttempt(call)
	in := x.r.WithContext(x)
	if x.upload.Exists() {
		in.Body, _ = x.upload.NewReader() // of the copy: net/http needs its own request's body to know how much of it is left
	}
	out := x.w
	if x.r.Header["Upgrade"] != nil {
		out = &tunnel.Writer{ResponseWriter: x.w, Tunnel: x.tunnel.Load}
	}
	x.writer.Init(out, &x.download.Body)
	x.server.proxy.ServeHTTP(&x.writer, in)
	x.writer.Commit()
}

// prepareForward prepares the request's body for attempts: it may be sent again, or only after the upstream has asked for it.
func (x *exchange) prepareForward() {
	if x.r.Header["Expect"] != nil {
		x.upload.ExpectContinue(x.Done())
	}
	if x.retries.MayRepeat() || x.route.Endpoints.MayMultiplex() {
		x.upload.RetainForReplay()
	}
}

// finish is deferred by serve. It ends every exchange, also after a panic, so that each admitted call is reported once and each
// request is reported once.
func (x *exchange) finish() {
	aborted := false
	if p := recover(); p == http.ErrAbortHandler {
		aborted = true
	} else if p != nil {
		aborted = !x.handlePanic(p)
	}
	if aborted && x.replaceResponse() {
		aborted = false
	}
	x.endUpstreamRequest()
	x.permits.Release()
	x.report(aborted)
	x.endUpload(aborted)
	if aborted {
		panic(http.ErrAbortHandler) // the server closes the connection, so the client sees that the response is incomplete
	}
}

// endUpstreamRequest ends what is still under way for the exchange, and reports an attempt that has no outcome as cancelled.
func (x *exchange) endUpstreamRequest() {
	x.writer.Stop()
	x.EndCallbacks()
	a := x.attempt
	if a != nil && a.stopBodyWatch != nil {
		a.stopBodyWatch()
	}
	if x.Started() {
		x.Cancel(errExchangeDone)
	}
	if a == nil {
		x.singleAttempt.call.Cancel()
	} else {
		a.end()
		x.finishHedging()
	}
	if x.tunnel.Load() != nil {
		x.server.tunnels.Closed()
	}
}

// report reports the exchange's outcome to metrics, log and trace.
func (x *exchange) report(aborted bool) {
	x.outcome.Duration = time.Since(x.began)
	if !x.isTest {
		x.route.Service.Observer.End(&x.outcome)
	}
	if x.recorder == nil {
		return
	}
	if t := x.tunnel.Load(); t != nil {
		x.recorder.ReportTunnel(&x.outcome, t.Opened, t.BytesWritten(), t.BytesRead())
		return
	}
	x.recorder.Report(&x.outcome, aborted, x.upload.BytesRead())
}

// endUpload ends the use of the client's body. Unless the response was aborted, it may read what the client still sends, so that
// the client can read the response.
func (x *exchange) endUpload(aborted bool) {
	if aborted {
		x.upload.StopTransportRead()
		x.upload.FailRead() // net/http drains the body before it closes the connection, and the client would wait for that
		return
	}
	x.upload.DrainAfterResponse(x.began.Add(x.timeout()), x.Started() && context.Cause(x) == errSlowClient)
	x.upload.StopTransportRead()
	x.upload.FreeBuffer()
}

// handlePanic logs a panic and responds with 502. A panic does not count as a failure of the upstream. handlePanic reports
// whether it has sent the response: not if a part of another one has been sent.
func (x *exchange) handlePanic(p any) (responded bool) {
	x.logPanic(p)
	x.writer.Stop() // before the check, as a header section that is held back is sent by a timer
	if x.attempt != nil {
		x.attempt.reportCancelled()
	}
	x.outcome.Result = events.ResultFailure
	if x.proxyResponded || x.writer.IsCommitted() {
		return false
	}
	clear(x.w.Header())
	x.writeProblem(problem.Internal)
	return true
}

func (x *exchange) logPanic(p any) {
	x.route.Logger.Error("panic while serving a request", "service", x.route.Service.Name,
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}
