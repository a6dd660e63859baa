package proxy

import (
	"context"
	"fmt"
	"net/http"
	"net/textproto"
	"runtime/debug"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/http1"
	"cbproxy/internal/service"
	"cbproxy/internal/tunnel"
	"cbproxy/internal/upload"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// exchange is one client request on a route, and its response. It is the context of the upstream request, so that
// ReverseProxy's callbacks find it. Its fields are for the request's goroutine unless they say otherwise.
type exchange struct {
	lifetime

	server       *Server
	route        *service.Route
	w            http.ResponseWriter
	r            *http.Request
	upstreamPath string // the raw path below the route's prefix
	began        time.Time
	grpc         *grpcCall // nil: the request is not gRPC
	outcome      events.Outcome
	permits      permits // of the limits on requests in flight

	// The request to the upstream.
	attempt       *attempt    // the current one; nil: no request has been sent
	singleAttempt attempt     // what attempt points to if there will be no other
	retries       *retryState // nil: no attempt is repeated
	replayed      bool        // an attempt was given a second connection
	upload        upload.Body

	// The response to the client.
	retryAt      time.Time                             // when the opening ends that rejects the request; zero: it is not rejected, or has no end
	mustQueue    bool                                  // earlier requests are queued
	responded    bool                                  // a header section has been sent
	sendInterim  func(int, textproto.MIMEHeader) error // ReverseProxy's: sends an interim response
	interimBytes int                                   // bytes of the interim responses; guarded by an attempt's interimMu
	writer       responseWriter
	download     responseBody
	buffered     bufferedBody
	tunnel       atomic.Pointer[tunnel.Tunnel] // nil: the connection has not been switched to another protocol
}

type exchangeKey struct{}

// Value makes the exchange its own value, which saves a context.
func (x *exchange) Value(key any) any {
	switch key := key.(type) {
	case exchangeKey:
		return x
	case upstream.ContextKey:
		if key == upstream.HTTP1Only {
			return x.r.Header["Upgrade"] != nil
		}
		return x.began.Add(x.timeout())
	case http1.HooksKey:
		return x.attempt
	case http1.CancelSignalKey:
		if x.retries != nil { // each attempt has a context of its own
			return nil
		}
		return &x.cancelSignal
	}
	return x.Context.Value(key)
}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// serve sends a request to the upstream if the breaker and the limits admit it, and otherwise answers with the fallback.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, rt *service.Route, upstreamPath string, limits routes.Limits) {
	x := &exchange{server: s, route: rt, w: w, r: r, upstreamPath: upstreamPath, began: time.Now()}
	x.outcome.Service = rt.Service.Name
	if rec := x.recorder(); rec != nil {
		x.began = rec.access.Arrived // log, trace and metrics count from one moment
		x.outcome.TraceID, x.outcome.SpanID = rec.access.TraceID, rec.access.SpanID
	}
	rt.Service.Observer.Begin()
	defer x.finish()
	x.grpc = grpcCallOf(r)
	if r.ContentLength != 0 {
		x.prepareUpload(limits)
	}
	if r.ContentLength > int64(limits.BodyBytes) {
		x.outcome.State = rt.Service.Breaker.State()
		x.respondInvalid(bodyTooLarge)
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
	if err != nil {
		rt.Service.NoteRejected(x.began)
		x.reject(rejectionReason(err))
		return
	}
	if x.outcome.Shed = x.permits.acquire(rt); x.outcome.Shed != "" {
		call.Cancel()
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
	// Otherwise net/http reads a good part of the body before it sends an early response.
	_ = http.NewResponseController(x.w).EnableFullDuplex() // HTTP/2 always is
	if x.grpc == nil {                                     // no strategy uses the content of a gRPC call
		x.upload.RetainForFallback(x.route.MaxRetained)
	}
}

// forward hands the request to ReverseProxy, which calls RoundTrip.
func (x *exchange) forward(call breaker.Call) {
	x.startTimer()
	if x.upload.Exists() && x.r.Header["Expect"] != nil {
		x.upload.ExpectContinue(x.Done())
	}
	x.retries = x.newRetryState()
	if x.upload.Exists() && (x.retries != nil || x.route.Pool.MayMultiplex()) {
		x.upload.RetainForReplay()
	}
	x.begin(call)
	in := x.r.WithContext(x)
	if x.upload.Exists() {
		in.Body, _ = x.upload.NewReader() // of the copy: net/http needs its own request's body to know how much of it is left
	}
	x.writer.ResponseWriter, x.writer.body = x.w, &x.download
	if x.r.Header["Upgrade"] != nil {
		x.writer.ResponseWriter = &tunnel.Writer{ResponseWriter: x.w, Tunnel: x.tunnel.Load}
	}
	x.server.proxy.ServeHTTP(&x.writer, in)
	x.writer.commit()
}

// finish is deferred. It ends every exchange, also after a panic, so that each admitted call is reported once.
func (x *exchange) finish() {
	p := recover()
	cut := p == http.ErrAbortHandler
	if p != nil && !cut {
		cut = x.handlePanic(p)
	}
	cut = cut && !x.replaceResponse()
	x.writer.stop()
	x.endCallbacks()
	if x.timer != nil {
		if x.attempt != nil && x.attempt.stopBodyWatch != nil {
			x.attempt.stopBodyWatch()
		}
		x.cancel(errExchangeDone) // ends the upstream request, if it is still under way
	}
	if x.attempt != nil {
		x.attempt.reportCancelled()
		x.attempt.endTrace()
	}
	x.permits.release()
	if x.tunnel.Load() != nil {
		x.server.tunnels.Done()
	}
	x.outcome.Duration = time.Since(x.began)
	x.route.Service.Observer.End(&x.outcome)
	if rec := x.recorder(); rec != nil {
		rec.exchangeEnded(x, cut)
	}
	if cut {
		x.upload.StopTransportRead()
		x.upload.FailRead()         // net/http reads on before it closes, and the client may wait for the end
		panic(http.ErrAbortHandler) // the client must see that the response is cut
	}
	x.upload.DrainAfterResponse(x.began.Add(x.timeout()), x.timer != nil && context.Cause(x) == errSlowClient)
	x.upload.StopTransportRead()
	x.upload.FreeBuffer()
}

// handlePanic answers for a fault of the proxy itself, which is no failure of the upstream. It reports whether it is too late
// for an answer.
func (x *exchange) handlePanic(p any) (late bool) {
	x.route.Logger.Error("panic while serving a request", "service", x.route.Service.Name,
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if x.attempt != nil {
		x.attempt.reportCancelled()
	}
	x.outcome.Result = events.ResultFailure
	if x.responded || x.writer.isCommitted() {
		return true
	}
	clear(x.w.Header())
	x.writeProblem(internalError)
	return false
}
