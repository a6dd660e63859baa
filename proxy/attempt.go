package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/problem"
	"cbproxy/internal/sanitize"
	"cbproxy/internal/upstream"
)

// attempt is one request to the upstream on behalf of an exchange. Each asks the breaker
// and reports to it. Its fields belong to the request's goroutine unless it says otherwise.
type attempt struct {
	context.Context                         // the exchange's own, or one below it if there may be further attempts
	stop            context.CancelCauseFunc // ends Context; nil: the exchange's cancel does

	x     *exchange
	call  breaker.Call
	start time.Time

	trace      *attemptTrace    // nil: it has no span
	reported   bool             // the breaker has been told
	failure    *events.Failure  // nil: it has not failed
	asked      http.Header      // the upstream's request's, once there is a response
	status     int              // of the response, 0 as long as there is none
	retryAfter string           // the response's Retry-After
	hopByHop   []string         // the fields that the response's Connection field names
	conns      int              // connections it was given; the hooks run on the request's goroutine
	conn       *upstream.Conn   // the last of them; nil if it is not known
	shared     bool             // conn speaks HTTP/2
	unwatch    func() bool      // keeps the end of Context from closing the response's body; nil: it does not
	overload   bool             // this machine could not carry it out, or the upstream wants fewer requests
	refused    *problem.Problem // why it was not sent, or was refused on its own account; nil if neither
	waited     int64            // nanoseconds for which the client's body had been awaited before it began
	head       time.Duration    // elapsed until the client was given something
	body       time.Duration    // spent on waiting for the upstream since

	answered atomic.Bool // the first byte of a response has come
	wanted   atomic.Bool // the upstream has said 100 (Continue)

	informing sync.Mutex // held while an interim response is passed on
	over      bool       // guarded by informing: the transport has returned, and there may be another attempt
}

// begin starts the next attempt of x, which the breaker has allowed by call.
func (x *exchange) begin(call breaker.Call) {
	a := &x.only
	if x.retries != nil {
		a = new(attempt)
		a.Context, a.stop = context.WithCancelCause(x)
	} else {
		a.Context = x
	}
	a.x, a.call, a.start, a.waited = x, call, time.Now(), x.upload.awaited.Load()
	x.attempt = a
	x.outcome.State, x.outcome.Attempts = call.State, x.outcome.Attempts+1
	x.outcome.Result, x.outcome.Failure = "", nil
	if x.upload.over != nil {
		x.upload.expects.Store(a)
	}
}

// cancel ends the attempt's context.
func (a *attempt) cancel(cause error) {
	if a.stop != nil {
		a.stop(cause)
		return
	}
	a.x.cancel(cause)
}

// succeeded reports that the upstream did its part.
func (a *attempt) succeeded() {
	a.trace.done()
	if a.reported {
		return
	}
	a.reported = true
	a.x.outcome.Result = events.ResultSuccess
	a.x.route.service.succeeded.Store(a.start.UnixNano())
	a.call.Success(a.took())
}

// maxDetail bounds the details of a failure in bytes: the history keeps them, and they may quote the upstream.
const maxDetail = 1 << 10

// failed reports that the upstream failed.
func (a *attempt) failed(kind events.ErrorType, err error) {
	x := a.x
	f := &events.Failure{Time: time.Now(), Type: kind, Detail: sanitize.Truncate(err.Error(), maxDetail)}
	if a.failure == nil {
		x.route.service.observer.Failed(kind, 1)
	}
	a.failure = f
	x.outcome.Result, x.outcome.Failure = events.ResultFailure, f
	x.route.service.failures.log(x.route.logger, x.route.service.name, f)
	if !a.reported {
		a.reported = true
		a.call.Failure(f, a.took())
	}
}

// cancelled reports that the attempt counts neither as a success nor as a failure.
func (a *attempt) cancelled() { a.noVerdict(events.ResultCancelled) }

// failedLocally reports that this machine could not carry the attempt out.
func (a *attempt) failedLocally(kind events.LocalError, err error) {
	x := a.x
	a.overload = true
	x.route.service.failedLocally(x.route.logger, kind, err)
	a.noVerdict(events.ResultRejected)
}

func (a *attempt) noVerdict(result events.Result) {
	if a.reported {
		return
	}
	a.reported = true
	a.x.outcome.Result = result
	a.call.Cancel()
}

// took is how long the upstream has been awaited, where anybody wants to know: the whole
// response, or for a stream its header section.
func (a *attempt) took() time.Duration {
	switch {
	case !a.x.route.timed:
		return 0
	case a.head > 0:
		return a.head + a.body
	}
	return a.elapsed()
}

// elapsed is the time since the start, without that in which the client's body was awaited.
func (a *attempt) elapsed() time.Duration {
	waited := a.x.upload.awaited.Load() - a.waited
	return max(time.Since(a.start)-time.Duration(waited), time.Nanosecond)
}

// isOver reports whether another attempt may have taken its place.
func (a *attempt) isOver() bool {
	a.informing.Lock()
	defer a.informing.Unlock()
	return a.over
}

// lost is run by an upstream's connection that ends, on a goroutine of the transport's. The
// transport would wait for the client's body before it said so.
func (a *attempt) lost(err error) {
	x := a.x
	x.ending.Lock()
	defer x.ending.Unlock()
	if x.over || a.isOver() || errors.Is(err, net.ErrClosed) {
		return
	}
	stalls := x.upload.stalls()
	if stalls {
		x.upload.stalledBefore.Store(true) // for an error that is seen later, when the client may have gone on
	}
	if x.upload.ended.Load() || a.answered.Load() || x.upload.faulty() != nil {
		return
	}
	if stalls {
		x.cancel(errStalled)
		x.endRead()
		return
	}
	a.cancel(errLost)
	x.stopUpload(events.ReasonReset)
}
