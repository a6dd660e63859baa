package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/balance"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/fault"
	"cbproxy/internal/grpc"
	"cbproxy/internal/lifetime"
	"cbproxy/internal/problem"
	"cbproxy/internal/sanitize"
	"cbproxy/internal/service"
	"cbproxy/internal/upstream"
)

// attempt is one request to the upstream on behalf of an exchange. Each is admitted by the breaker and reported to it once.
// x, call and start are not modified after begin. Of the other fields, the atomic ones and what
// interimMu guards are for any goroutine, and the rest for the request's goroutine; conn is set before the transport can call
// Got1xxResponse.
type attempt struct {
	context.Context                         // the exchange's, or a child of it if there may be further attempts
	stop            context.CancelCauseFunc // ends Context; nil: the exchange's cancel does

	x     *exchange
	call  breaker.Call
	start time.Time

	lease            balance.Lease         // on the endpoint; zero before one is chosen
	replays          upstream.ReplayLimit  // of this attempt and earlier ones
	pushback         grpc.Pushback         // what a gRPC response without messages says about retries
	trace            *service.AttemptTrace // nil: it has no span
	fault            *fault.Fault          // that is injected; nil: none
	reported         bool                  // the result has been reported to the breaker, or is held back
	holdsBack        bool                  // a failure is reported to the breaker only if no other endpoint is tried
	heldBack         time.Duration         // the response time of a failure that has been held back; 0: none has
	failure          *events.Failure       // nil: it has not failed
	status           int                   // of the response, 0 before there is one
	retryAfter       string                // the response's Retry-After
	hopByHop         []string              // the fields that the response's Connection field names
	conn             *upstream.Conn        // the last one that the attempt was given; nil: it is not one of http.Transport
	multiplexed      bool                  // conn speaks HTTP/2, and other requests may share it
	stopBodyWatch    func() bool           // stops the watch that closes the response's body when Context ends; nil: there is none
	rejectedForLoad  bool                  // this machine lacked a resource or was paused, or the upstream asked for fewer requests
	requestProblem   *problem.Problem      // why the request could not be sent, or was rejected for its content; nil: neither
	uploadWaitBefore time.Duration         // upload.CompletedReadTime at the start
	limits           attemptLimits         // if there may be other attempts
	timer            lifetime.AttemptTimer // of attempt_timeout
	headerTime       time.Duration         // time until the response's header section
	bodyTime         time.Duration         // time spent on waiting for the upstream since then

	gotFirstByte atomic.Bool // the first byte of a response has arrived
	gotContinue  atomic.Bool // the upstream has sent 100 (Continue)

	interimMu sync.Mutex // held while an interim response is sent to the client
	returned  bool       // guarded by interimMu: the transport has returned, and there may be another attempt
	isHedged  bool       // guarded by interimMu: another attempt is in flight at the same time
	isHedge   bool       // the attempt was sent beside another one; not modified
}

// beginAttempt starts the next attempt, which the breaker has admitted as call.
func (x *exchange) beginAttempt(call breaker.Call) {
	a := &x.singleAttempt
	if x.retries != nil {
		a = new(attempt)
		a.Context, a.stop = context.WithCancelCause(x)
		a.limits = x.newAttemptLimits(time.Now())
	} else {
		a.Context = x
	}
	a.x, a.call, a.start, a.uploadWaitBefore = x, call, time.Now(), x.upload.CompletedReadTime()
	a.holdsBack = x.retries.Remaining() > 0 && x.route.Endpoints.HasOthers()
	if previous := x.attempt; previous != nil {
		a.replays = previous.replays
	}
	a.replays.BeginAttempt()
	x.attempt = a
	x.outcome.State, x.outcome.Attempts = call.State, x.outcome.Attempts+1
	x.outcome.Result, x.outcome.Reason, x.outcome.Failure = "", "", nil
	if x.upload.ExpectsContinue() {
		x.upload.SetFinalResponseSeen(func() bool { return a.gotFirstByte.Load() && !a.gotContinue.Load() })
	}
}

// cancel ends the attempt's context.
func (a *attempt) cancel(cause error) {
	if a.stop != nil {
		a.stop(cause)
		return
	}
	a.x.Cancel(cause)
}

// reportSuccess reports a success.
func (a *attempt) reportSuccess() {
	a.trace.ResponseEnded()
	if a.reported {
		return
	}
	if !a.x.download.Started() {
		a.noteAnswer()
	}
	a.reported = true
	a.x.outcome.Result = events.ResultSuccess
	a.x.route.Service.NoteSuccess(a.start)
	a.lease.Succeeded()
	a.call.WithStatus(a.status).Success(a.responseTime())
}

// reportFailure reports a failure of the upstream.
func (a *attempt) reportFailure(kind events.ErrorType, err error) {
	x := a.x
	f := &events.Failure{Time: time.Now(), Type: kind, Detail: sanitize.Truncate(a.fault.Describe(err.Error()), service.MaxFailureDetail)}
	if a.failure == nil {
		x.route.Service.Observer.Failed(kind, 1)
		if service.IsOverload(kind, err, a.status, x.outcome.GRPCStatus) {
			a.noteOverload()
		}
		if a.fault == nil { // otherwise no endpoint is the cause
			a.lease.Failed(f)
		}
	}
	a.failure = f
	x.outcome.Result, x.outcome.Failure = events.ResultFailure, f
	x.route.Service.LogFailure(x.route.Logger, f)
	switch {
	case a.reported:
	case a.holdsBack:
		a.reported, a.heldBack = true, max(a.responseTime(), 1)
	default:
		a.reported = true
		a.call.WithStatus(a.status).Failure(f, a.responseTime())
	}
}

// reportHeldBack reports a failure that has been held back: no other endpoint is tried. From now on, failures are reported at once.
func (a *attempt) reportHeldBack() {
	a.holdsBack = false
	if a.heldBack > 0 {
		a.call.WithStatus(a.status).Failure(a.failure, a.heldBack)
		a.heldBack = 0
	}
}

// end ends the attempt: it has no outcome yet or has been reported, and its response is not used any more.
func (a *attempt) end() {
	a.reportHeldBack()
	a.reportCancelled()
	a.endTrace()
	a.lease.Release()
}

// reportCancelled reports that the attempt counts neither as a success nor as a failure.
func (a *attempt) reportCancelled() { a.reportNeutral(events.ResultCancelled) }

// reportRetryAfter reports that the upstream has responded, and asks for no request before until.
func (a *attempt) reportRetryAfter(until time.Time) {
	if a.reported {
		return
	}
	a.reported = true
	a.noteOverload()
	a.x.outcome.Result = events.ResultSuccess
	a.call.WithStatus(a.status).RetryAfter(until)
}

// reportLocalFailure reports that the attempt failed because this machine lacked a resource.
func (a *attempt) reportLocalFailure(kind events.LocalError, err error) {
	x := a.x
	a.rejectedForLoad = true
	x.route.Service.ReportLocalError(x.route.Logger, kind, err)
	a.reportNeutral(events.ResultRejected)
}

func (a *attempt) reportNeutral(result events.Result) {
	if a.reported {
		return
	}
	a.reported = true
	if a.x.outcome.Result = result; result == events.ResultRejected {
		a.x.outcome.Reason = events.ReasonOverload
		a.call.Reject()
		return
	}
	a.call.WithStatus(a.status).Cancel()
}

// changesLimit reports whether the attempt's result changes the route's limit on requests in flight. Those of injected faults and of
// probes do not: a probe shows whether the upstream has recovered, and the other requests of that time are not sent.
func (a *attempt) changesLimit() bool {
	x := a.x
	return x.permits.Learn() && a.fault == nil && (a.call.State != events.HalfOpen || x.route.Config.Breaker.Mode != "enforce")
}

// noteAnswer reports to the route's limit that the upstream has answered, unless the response counts as something else: at the end of a
// response that is read whole, and otherwise at its header section, because the rest depends on the client as well.
func (a *attempt) noteAnswer() {
	if !a.reported && a.changesLimit() {
		a.x.permits.Answered(a.start, a.elapsedWithoutClient(), a.status, a.retryAfter)
	}
}

// noteOverload reports to the route's limit that the upstream has too many requests.
func (a *attempt) noteOverload() {
	if a.changesLimit() {
		a.x.permits.Overloaded(a.start)
	}
}

// responseTime returns the response time that the breaker compares with slow_call_duration: until the end of the response, or of
// a stream's header section; 0 if the breaker does not use it.
func (a *attempt) responseTime() time.Duration {
	switch {
	case !a.x.route.UsesCallDuration:
		return 0
	case a.headerTime > 0:
		return a.headerTime + a.bodyTime
	}
	return a.elapsedWithoutClient()
}

// elapsedWithoutClient returns the time since the start, without the time in which the attempt waited for the client's body.
func (a *attempt) elapsedWithoutClient() time.Duration {
	waited := a.x.upload.CompletedReadTime() - a.uploadWaitBefore
	return max(time.Since(a.start)-waited, time.Nanosecond)
}

// setReturned records that the transport has returned.
func (a *attempt) setReturned() {
	a.timer.Stop()
	a.interimMu.Lock()
	defer a.interimMu.Unlock()
	a.returned = true
}

// hasReturned reports whether another attempt may have begun.
func (a *attempt) hasReturned() bool {
	a.interimMu.Lock()
	defer a.interimMu.Unlock()
	return a.returned
}

// connEndedDuringUpload is called when an upstream's connection ends during the upload, on a goroutine of the transport. The
// transport itself would wait for the client's body before it reported that.
func (a *attempt) connEndedDuringUpload(err error) {
	x := a.x
	if !x.BeginCallback() {
		return
	}
	defer x.EndCallback()
	if a.hasReturned() || errors.Is(err, net.ErrClosed) {
		return
	}
	stalls := x.upload.NoteStalling()
	if x.upload.Ended() || a.gotFirstByte.Load() || x.upload.Err() != nil {
		return
	}
	if stalls {
		x.Cancel(errStalled)
		x.upload.FailRead()
		return
	}
	a.cancel(errConnEndedDuringUpload)
	x.stopUpload(events.ReasonReset)
}
