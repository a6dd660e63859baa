package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/http1"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// Why an exchange's context ended, where it was not the client's that ended first.
var (
	errTimeout    = errors.New("the route's timeout passed")
	errDeadline   = errors.New("the call's grpc-timeout passed")
	errHurried    = errors.New("the call's grpc-timeout was too short for any upstream")
	errIdle       = errors.New("the stream was silent for the route's idle_timeout")
	errSlowClient = errors.New("the client did not send or take a body in time")
	errStalled    = errors.New("the upstream ended the connection while the client was slow to send its body")
	errReplayed   = upstream.ErrReplayed
	errPaused     = errors.New("the process was stopped when the time limit passed")
	errLost       = errors.New("the upstream closed the connection during the upload")
	errEnded      = errors.New("the exchange is over")

	errUnprocessed = errors.New("the upstream has refused each stream without processing the request")
)

// exchange is one client request on its way through a route. It is the context of the
// upstream's request, so that ReverseProxy's callbacks find it. Its fields belong to the
// request's goroutine unless it says otherwise.
type exchange struct {
	context.Context // ends with the client's, or before
	stop            context.CancelCauseFunc
	stopped         http1.CancelSignal
	client          http1.Registration // for the client's context
	leaves          func()             // what it runs

	informational func(int, textproto.MIMEHeader) error // ReverseProxy's: passes an interim response on
	interim       int                                   // bytes of those that have come; guarded by an attempt's informing

	route *route
	w     http.ResponseWriter
	r     *http.Request
	rest  string // the raw path below the route's prefix
	start time.Time
	grpc  *grpcCall // nil: the request is no gRPC

	attempt  *attempt // the current one; nil: the upstream is not asked
	only     attempt  // what attempt points at if there will be no other
	retries  *retries // nil: no attempt is repeated
	replay   *replay  // nil: the request's body is not kept to be sent again
	replayed bool     // an attempt was given a second connection
	permits  permits  // of the limits on requests in flight

	retryAt  time.Time              // when the opening ends that refuses it; zero if none does, or it has no end
	held     bool                   // requests before it are queued
	answered bool                   // a response's header section has been handed on
	tunnel   atomic.Pointer[tunnel] // nil: the connection has not been switched to another protocol

	clock   *time.Timer   // runs expire, while something of the upstream or the client is awaited; see setClock
	armed   atomic.Int64  // what upstream.Paused was when the clock was set
	late    atomic.Bool   // the process was stopped since, and expire has waited for what came meanwhile
	paused  time.Duration // what upstream.Paused was at the start
	idle    atomic.Bool   // the clock measures silence, not the exchange
	outcome events.Outcome

	ending sync.Mutex // held while another goroutine ends the exchange
	over   bool       // guarded by ending

	writer   responseWriter
	upload   requestBody
	download responseBody
	buffered bufferedBody
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
		return x.start.Add(x.timeout())
	case http1.HooksKey:
		return x.attempt
	case http1.CancelSignalKey:
		if x.retries != nil { // each attempt has an end of its own
			return nil
		}
		return &x.stopped
	}
	return x.Context.Value(key)
}

// cancel ends the exchange's context.
func (x *exchange) cancel(cause error) {
	x.stop(cause)
	x.stopped.Notify()
}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// serve carries a request to the upstream if the breaker and the limits let it, or else to
// the fallback.
func (rt *route) serve(w http.ResponseWriter, r *http.Request, rest string, limits routes.Limits) {
	x := &exchange{route: rt, w: w, r: r, rest: rest, start: time.Now()}
	x.outcome.Service = rt.service.name
	if rec := x.record(); rec != nil {
		x.start = rec.access.Arrived // so that all that is told of it counts from one moment
		x.outcome.TraceID, x.outcome.SpanID = rec.access.TraceID, rec.access.SpanID
	}
	rt.service.observer.Begin()
	defer x.end()
	x.grpc = grpcCallOf(r)
	if r.ContentLength != 0 {
		x.upload.x, x.upload.body, x.upload.limit = x, r.Body, int64(limits.BodyBytes)
		x.upload.pause = limits.ReadHeaderTimeout
		// Otherwise net/http reads a good part of the body before it lets an early answer out.
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 always is
		if x.grpc == nil {                                   // whose calls no strategy answers by their content
			x.upload.keepUpTo(rt.keep)
		}
	}
	if r.ContentLength > x.upload.limit {
		x.outcome.State = rt.service.breaker.State()
		x.refuse(bodyTooLarge)
		return
	}
	if rt.chain != nil && x.grpc == nil {
		if reason, holds := rt.chain.Intercept(r.Method); holds {
			x.hold(reason)
			return
		}
	}
	call, err, ok := x.admit()
	if !ok {
		return
	}
	x.outcome.State, x.retryAt = call.State, call.RetryAt
	if err != nil {
		rt.service.reserved.note(x.start)
		x.reject(refusedFor(err))
		return
	}
	if x.outcome.Shed = x.permits.acquire(rt); x.outcome.Shed != "" {
		call.Cancel()
		x.reject(events.ReasonOverload)
		return
	}
	x.forward(call)
}

// forward hands the exchange to ReverseProxy, which comes back to RoundTrip.
func (x *exchange) forward(call breaker.Call) {
	x.startClock()
	if x.upload.body != nil && x.r.Header["Expect"] != nil {
		x.upload.over = x.Done()
	}
	x.retries = x.newRetries()
	if x.upload.body != nil && (x.retries != nil || x.route.pool.MayMultiplex()) {
		x.replay = &replay{body: &x.upload}
	}
	x.begin(call)
	in := x.r.WithContext(x)
	if x.upload.body != nil {
		in.Body = &x.upload // of the copy: net/http looks at its own request's body to know what is left of it
	}
	x.writer.ResponseWriter, x.writer.body = x.w, &x.download
	if x.r.Header["Upgrade"] != nil {
		x.writer.ResponseWriter = &upgradeWriter{x.w, x}
	}
	x.route.proxy.ServeHTTP(&x.writer, in)
	x.writer.commit()
}

// startClock makes the exchange end with its client, or when its time is up. Further calls do
// nothing.
func (x *exchange) startClock() {
	if x.clock == nil {
		x.watchClient()
		x.paused = upstream.Paused()
		x.armed.Store(int64(x.paused))
		x.ending.Lock() // expire uses the clock as well
		x.clock = time.AfterFunc(x.timeout(), x.expire)
		x.ending.Unlock()
	}
}

// watchClient makes the exchange end with its client.
func (x *exchange) watchClient() {
	client := x.r.Context()
	x.Context, x.stop = context.WithCancelCause(context.WithoutCancel(client))
	x.leaves = x.left
	x.client = http1.AfterFunc(client, &x.leaves)
}

// left is run when the client's context ends, on a goroutine of its own. net/http takes a read that was made to
// fail for the end of a client of HTTP/1, which must not end the answer of an upstream that speaks HTTP/2: only there the
// two are independent.
func (x *exchange) left() {
	x.ending.Lock()
	defer x.ending.Unlock()
	if !x.upload.aborted.Load() || x.r.ProtoMajor > 1 || x.route.config.Upstream.Scheme == "http" {
		x.cancel(context.Canceled)
	}
}

// timeout is the time for the whole exchange.
func (x *exchange) timeout() time.Duration {
	if x.hasDeadline() {
		return x.grpc.timeout
	}
	return x.route.config.Timeout
}

// hasDeadline reports whether the caller gives the exchange less time than the route.
func (x *exchange) hasDeadline() bool {
	return x.grpc != nil && x.grpc.timeout > 0 && x.grpc.timeout < x.route.config.Timeout
}

// hurried reports whether the caller gives the exchange too little time for it to say anything of the upstream.
func (x *exchange) hurried() bool { return x.hasDeadline() && x.grpc.timeout < leastDeadline }

// setClock makes expire run after d.
func (x *exchange) setClock(d time.Duration) {
	x.armed.Store(int64(upstream.Paused()))
	x.late.Store(false)
	x.clock.Reset(d)
}

// wasPaused reports whether the process has been stopped since the exchange began.
func (x *exchange) wasPaused() bool { return upstream.Paused() > x.paused }

// afterPause is how long the answers that have come while the process was stopped have to be read.
const afterPause = 500 * time.Millisecond

// expire is run by the clock, on a goroutine of its own, and finds out who was too slow.
func (x *exchange) expire() {
	x.ending.Lock()
	defer x.ending.Unlock()
	if x.over {
		return
	}
	paused := int64(upstream.Paused()) > x.armed.Load()
	if paused && x.late.CompareAndSwap(false, true) {
		x.clock.Reset(afterPause)
		return
	}
	if t := x.tunnel.Load(); t != nil {
		t.end() // both sides were silent, and neither is to blame
		return
	}
	switch {
	case paused:
		x.cancel(errPaused)
		x.stopUpload(events.ReasonOverload)
	case x.download.started.Load() && !x.download.reading.Load():
		x.cancel(errSlowClient)
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now())
	case x.idle.Load() && x.keepsSilent():
		x.cancel(errSlowClient) // the upstream may wait for it
		x.endRead()
	case x.idle.Load():
		x.cancel(errIdle)
		x.endRead()
	case x.upload.slow():
		x.cancel(errSlowClient)
		x.endRead()
	case x.hasDeadline():
		x.cancel(x.grpc.deadlineError())
		x.endRead()
	default:
		x.cancel(errTimeout)
		x.stopUpload(events.ReasonTimeout)
	}
}

// stopUpload makes the transport read no more of the client's body, for which it waits before it
// gives up. A fallback for reason may still get what is left.
func (x *exchange) stopUpload(reason events.Reason) {
	if !x.route.answersFor(reason) || !x.upload.spare() {
		x.endRead()
	}
}

// endRead makes a read of the client's body fail, for which the transport waits before it
// gives up.
func (x *exchange) endRead() {
	x.upload.interrupted.Store(true) // first, so that whoever sees the body's end sees this as well
	if x.upload.body != nil && !x.upload.ended.Load() {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now()) // where it can't be set, the client holds only itself up
	}
}

// abortRead is endRead for a transport that has given up a request, perhaps on a goroutine of
// its own. net/http may take the failed read for the client's end.
func (x *exchange) abortRead() {
	x.ending.Lock()
	defer x.ending.Unlock()
	if x.over || x.Err() != nil { // which ends a read as well
		return
	}
	if x.upload.stalls() {
		x.upload.stalledBefore.Store(true)
	}
	x.upload.aborted.Store(true)
	x.stopUpload(events.ReasonReset) // or it has an answer, which then comes a little later
}

// end is deferred: it sees every exchange out, whatever became of it, so that no admitted
// call goes unreported.
func (x *exchange) end() {
	p := recover()
	cut := p == http.ErrAbortHandler
	if p != nil && !cut {
		cut = x.panicked(p)
	}
	cut = cut && !x.answerInstead()
	x.writer.stop()
	x.ending.Lock()
	x.over = true // from here on, the client's connection is no more ours to hurry
	x.ending.Unlock()
	if x.clock != nil {
		x.clock.Stop()
		x.client.Stop()
		if x.attempt != nil && x.attempt.unwatch != nil {
			x.attempt.unwatch()
		}
		x.cancel(errEnded) // what is left of the upstream's work
	}
	if x.attempt != nil {
		x.attempt.cancelled()
		x.attempt.endTrace()
	}
	x.permits.release()
	if x.tunnel.Load() != nil {
		x.route.tunnels.Done()
	}
	x.outcome.Duration = time.Since(x.start)
	x.route.service.observer.End(&x.outcome)
	if rec := x.record(); rec != nil {
		rec.ended(x, cut)
	}
	if cut {
		x.takeUpload()
		x.endRead()                 // net/http reads on before it closes, and the client may be waiting for the end
		panic(http.ErrAbortHandler) // so that the client sees a cut and not an end
	}
	x.linger()
	x.takeUpload()
	x.upload.forget()
}

// panicked answers for a fault of the proxy's own, which is none of the upstream's. It
// reports whether it is too late for an answer.
func (x *exchange) panicked(p any) (late bool) {
	x.route.logger.Error("panic while serving a request", "service", x.route.service.name,
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if x.attempt != nil {
		x.attempt.cancelled()
	}
	x.outcome.Result = events.ResultFailure
	if x.answered || x.writer.isCommitted() {
		return true
	}
	clear(x.w.Header())
	x.problem(internalError)
	return false
}
