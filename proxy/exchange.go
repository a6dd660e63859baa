package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/routes"
)

// Why an exchange's context ended, where it was not the client's that ended first.
var (
	errTimeout    = errors.New("the route's timeout passed")
	errIdle       = errors.New("the stream was silent for the route's idle_timeout")
	errSlowClient = errors.New("the client did not send or take a body within the route's timeout")
	errReplayed   = errors.New("two connections in a row were closed before they answered")
	errLost       = errors.New("the upstream closed the connection during the upload")
	errEnded      = errors.New("the exchange is over")
)

// exchange is one client request on its way through a route. It is the context of the
// upstream's request, so that ReverseProxy's callbacks find it. Its fields belong to the
// request's goroutine unless it says otherwise.
type exchange struct {
	context.Context // the client's, cut short by timeouts
	cancel          context.CancelCauseFunc

	route *route
	w     http.ResponseWriter
	r     *http.Request
	rest  string // the raw path below the route's prefix
	start time.Time

	call      breaker.Call
	admitted  bool
	reported  bool // the breaker has been told
	responded bool // the upstream's header section has arrived
	answered  bool // a response's header section has been handed on
	tunnel    bool // the connection has been switched to another protocol

	clock   *time.Timer // runs expire, while something of the upstream or the client is awaited
	idle    atomic.Bool // the clock measures silence, not the exchange
	outcome events.Outcome

	ending sync.Mutex // held while another goroutine ends the exchange
	over   bool       // guarded by ending

	conns    int // connections the attempt was given; the hooks run on the request's goroutine
	upload   requestBody
	download responseBody
	buffered bufferedBody
}

type exchangeKey struct{}

// Value makes the exchange its own value, which saves a context.
func (x *exchange) Value(key any) any {
	if key == (exchangeKey{}) {
		return x
	}
	return x.Context.Value(key)
}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// serve carries a request to the upstream if the breaker lets it, or else to the fallback.
func (rt *route) serve(w http.ResponseWriter, r *http.Request, rest string, limits routes.Limits) {
	x := &exchange{route: rt, w: w, r: r, rest: rest, start: time.Now()}
	x.outcome.Service = rt.service.name
	rt.service.observer.Begin()
	defer x.end()
	if r.ContentLength != 0 {
		x.upload.body, x.upload.limit = r.Body, int64(limits.BodyBytes)
		// Otherwise net/http reads a good part of the body before it lets an early answer out.
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 always is
	}
	if r.ContentLength > x.upload.limit {
		x.outcome.State = rt.service.breaker.State()
		x.refuse(bodyTooLarge)
		return
	}
	call, err := rt.service.breaker.Allow()
	x.outcome.State = call.State
	switch err {
	case nil:
		x.call, x.admitted = call, true
		x.forward()
	case breaker.ErrHalfOpenLimit:
		x.reject(events.ReasonHalfOpenLimit)
	default:
		x.reject(events.ReasonOpen)
	}
}

// forward hands the exchange to ReverseProxy, which comes back to RoundTrip.
func (x *exchange) forward() {
	x.Context, x.cancel = context.WithCancelCause(x.r.Context())
	x.clock = time.AfterFunc(x.route.config.Timeout, x.expire)
	in := x.r.WithContext(x)
	if x.upload.body != nil {
		in.Body = &x.upload // of the copy: net/http looks at its own request's body to know what is left of it
	}
	x.route.proxy.ServeHTTP(x.w, in)
}

// expire is run by the clock, on a goroutine of its own, and finds out who was too slow.
func (x *exchange) expire() {
	x.ending.Lock()
	defer x.ending.Unlock()
	if x.over {
		return
	}
	switch {
	case x.idle.Load():
		x.cancel(errIdle)
	case x.upload.reading.Load():
		x.cancel(errSlowClient)
		x.endRead()
	case x.download.started.Load() && !x.download.reading.Load():
		x.cancel(errSlowClient)
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now())
	default:
		x.cancel(errTimeout)
		x.endRead()
	}
}

// endRead makes a read of the client's body fail, for which the transport waits before it
// gives up.
func (x *exchange) endRead() {
	if x.upload.body != nil && !x.upload.ended.Load() {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now()) // where it can't be set, the client holds only itself up
	}
}

// lost is run by an upstream's connection that ends, on a goroutine of the transport's. The
// transport would wait for the client's body before it said so.
func (x *exchange) lost(err error) {
	x.ending.Lock()
	defer x.ending.Unlock()
	if x.over || x.upload.ended.Load() || x.upload.answered.Load() || x.upload.faulty() != nil || errors.Is(err, net.ErrClosed) {
		return
	}
	x.cancel(errLost)
	x.endRead()
}

// succeeded reports that the upstream did its part.
func (x *exchange) succeeded() {
	if x.reported {
		return
	}
	x.reported = true
	x.outcome.Result = events.ResultSuccess
	x.call.Success(0)
}

// failed reports that the upstream failed.
func (x *exchange) failed(kind events.ErrorType, err error) {
	f := &events.Failure{Time: time.Now(), Type: kind, Detail: err.Error()}
	x.outcome.Result, x.outcome.Failure = events.ResultFailure, f
	x.route.service.failures.log(x.route.logger, x.route.service.name, f)
	if !x.reported {
		x.reported = true
		x.call.Failure(f, 0)
	}
}

// cancelled reports that the exchange says nothing of the upstream.
func (x *exchange) cancelled() {
	if x.reported {
		return
	}
	x.reported = true
	x.outcome.Result = events.ResultCancelled
	x.call.Cancel()
}

// end is deferred: it sees every exchange out, whatever became of it, so that no admitted
// call goes unreported.
func (x *exchange) end() {
	p := recover()
	cut := p == http.ErrAbortHandler
	if p != nil && !cut {
		cut = x.panicked(p)
	}
	x.ending.Lock()
	x.over = true // from here on, the client's connection is no more ours to hurry
	x.ending.Unlock()
	if x.clock != nil {
		x.clock.Stop()
		if x.outcome.Result != events.ResultSuccess {
			x.cancel(errEnded) // what is left of the upstream's work; net/http would do it a little later
		}
	}
	if x.admitted {
		x.cancelled()
	}
	if x.tunnel {
		x.route.tunnels.Done()
	}
	x.outcome.Duration = time.Since(x.start)
	x.route.service.observer.End(&x.outcome)
	if cut {
		x.endRead()                 // net/http reads on before it closes, and the client may be waiting for the end
		panic(http.ErrAbortHandler) // so that the client sees a cut and not an end
	}
	x.linger()
}

// panicked answers for a fault of the proxy's own, which is none of the upstream's. It
// reports whether it is too late for an answer.
func (x *exchange) panicked(p any) (late bool) {
	x.route.logger.Error("panic while serving a request", "service", x.route.service.name,
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if x.admitted {
		x.cancelled()
	}
	x.outcome.Result = events.ResultFailure
	if x.answered {
		return true
	}
	clear(x.w.Header())
	x.problem(internalError)
	return false
}
