package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"cbproxy/internal/balance"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/expression"
	"cbproxy/internal/fault"
	"cbproxy/internal/message"
	"cbproxy/internal/sanitize"
	"cbproxy/internal/upstream"
)

// Delivery is a queued request to a service's upstream, without a client that waits for the response.
type Delivery struct {
	Service string
	Method  string
	// Host is the client's. It is sent if the route has preserve_host.
	Host string
	// UpstreamPath is the raw path to send, without the route's prefix if strip_prefix is set. Query is the raw query.
	UpstreamPath, Query string
	EmptyQuery          bool // the target ends with a question mark
	// Header is sent as it is, with the proxy added to Via.
	Header http.Header
	Body   []byte
	// SuspectedPoison marks a request that may fail however healthy the upstream is, because it has failed several times before.
	// If it fails on a connection, that is not reported to the breaker. It takes no permit of a half-open breaker before it
	// succeeds.
	SuspectedPoison bool
}

// Delivered is an upstream's response to a Delivery.
type Delivered struct {
	Status int
	// RetryAfter is the delay that the upstream asks for, 0 if none.
	RetryAfter time.Duration
	// Detail describes the response to operators if a fault was injected; "" otherwise.
	Detail string
}

// DeliveryError is the error of a Delivery that the breaker admitted and that got no response.
type DeliveryError struct {
	Reason events.Reason
	// NotCausedByRequest means that the error does not count as a failure of the request: there was no connection, or a local
	// resource was exhausted.
	NotCausedByRequest bool
	// Unsendable means that the request itself can never be sent, such as one with a header field that HTTP/2 cannot represent.
	Unsendable bool
	Err        error
}

func (e *DeliveryError) Error() string { return e.Err.Error() }
func (e *DeliveryError) Unwrap() error { return e.Err }

// ErrNoService is the error of a Delivery to a service without a route.
var ErrNoService = errors.New("no route has this service")

// Deliver sends d once, if the service's breaker admits it, and reports the result to the breaker. The error is
// one of those of breaker.Breaker.Allow if the breaker rejects it, a *DeferredError, ErrNoService, or a *DeliveryError.
func (m *Manager) Deliver(ctx context.Context, d *Delivery) (Delivered, error) {
	snap := m.Acquire()
	defer snap.Release()
	rt := snap.routesByService[d.Service]
	if rt == nil {
		return Delivered{}, ErrNoService
	}
	b := rt.Service.Breaker
	if until := rt.Service.reservation.until(b, time.Now()); !until.IsZero() {
		return Delivered{}, &DeferredError{until}
	}
	call, err := b.Allow()
	if err != nil {
		return Delivered{}, err
	}
	if d.SuspectedPoison && call.State == events.HalfOpen {
		call.Withdraw() // the permit is for requests whose outcome shows whether the upstream has recovered
		call = breaker.Call{State: call.State}
	}
	return rt.deliver(ctx, d, call)
}

// LastSuccess returns when the last successful client request to a service was sent; zero if there is none, or if no route has
// the service.
func (m *Manager) LastSuccess(service string) (start time.Time) {
	snap := m.Acquire()
	defer snap.Release()
	if rt := snap.routesByService[service]; rt != nil {
		if at := rt.Service.lastSuccess.Load(); at != 0 {
			start = time.Unix(0, at)
		}
	}
	return start
}

// deliver sends d and reports to call exactly once.
func (rt *Route) deliver(ctx context.Context, d *Delivery, call breaker.Call) (Delivered, error) {
	var trace *AttemptTrace
	reporting := false
	defer func() {
		if !reporting { // a panic
			call.Cancel()
			trace.endDelivery(events.ResultCancelled, nil)
		}
	}()
	start := time.Now()
	lease, res := rt.pickForDelivery(ctx)
	defer lease.Release()
	if res.err == nil {
		out := rt.deliveryRequest(ctx, d, &lease)
		trace = rt.traceDelivery(out, lease.URL, call.State)
		injected := rt.drawDeliveryFault(d)
		trace.FaultInjected(injected)
		res = rt.send(out, &lease, trace, call.State, injected)
		res.fault = injected
	}
	reporting = true
	rt.reportDelivery(d, call, &lease, trace, &res, res.result(ctx), time.Since(start))
	if res.err != nil {
		return res.response, res.deliveryError()
	}
	return res.response, nil
}

// pickForDelivery returns a lease on the endpoint for a delivery, or a result with an error if no endpoint is known in time.
func (rt *Route) pickForDelivery(ctx context.Context) (balance.Lease, deliveryResult) {
	lease, err := rt.pick(ctx, rt.Config.Timeout)
	if err != nil {
		return lease, deliveryResult{failure: rt.failureOf(err), err: err, problem: err.RequestProblem}
	}
	return lease, deliveryResult{}
}

// drawDeliveryFault returns the fault to inject into d; nil: none. An abort with a status below 500 is not injected: the queue would
// remove the request as delivered or rejected, although the upstream has not seen it.
func (rt *Route) drawDeliveryFault(d *Delivery) *fault.Fault {
	f := rt.Service.Faults.Draw(d.Header)
	if f != nil && f.Kind == events.FaultAbort && f.Status < 500 {
		return nil
	}
	return f
}

// deliveryResult is the result of sending a Delivery.
type deliveryResult struct {
	response   Delivered // if err is nil
	connected  bool
	failure    events.ErrorType // of the upstream; "": it did not fail, or err counts neither as a success nor as a failure
	err        error            // why there is no response
	problem    int              // upstream.ErrorClass.RequestProblem of err
	class      StatusClass      // of the response
	until      time.Time        // if class is StatusRetryAfter
	incomplete error            // why the response is incomplete; nil: it is complete, or that does not matter
	fault      *fault.Fault     // that was injected; nil: none
}

// deliveryError returns the error of a delivery without a response.
func (r *deliveryResult) deliveryError() *DeliveryError {
	return &DeliveryError{
		Reason:             ReasonOf(r.failure),
		NotCausedByRequest: r.problem == 0 && (!r.connected || r.failure == ""),
		Unsendable:         r.problem == http.StatusBadRequest,
		Err:                r.err,
	}
}

// result returns how the delivery counts. ctx is that of the caller of Deliver.
func (r *deliveryResult) result(ctx context.Context) events.Result {
	switch {
	case r.err == nil && r.failure == "":
		return events.ResultSuccess
	case r.err != nil && (r.failure == "" || ctx.Err() != nil):
		return events.ResultCancelled
	}
	return events.ResultFailure
}

// newFailure describes a failed delivery.
func (r *deliveryResult) newFailure() *events.Failure {
	detail := fmt.Sprintf("status %d", r.response.Status)
	switch {
	case r.err != nil:
		detail = r.err.Error()
	case r.failure == events.ErrorExpression:
		detail = ErrFailureWhen.Error()
	case r.failure != events.ErrorStatus:
		detail += "; the response is incomplete: " + r.incomplete.Error()
	}
	return &events.Failure{Time: time.Now(), Type: r.failure, Detail: sanitize.Truncate("delivery: "+r.fault.Describe(detail), MaxFailureDetail)}
}

// reportDelivery reports the result of d, which took a time, to the breaker, the endpoint, the observer, the log and the trace.
func (rt *Route) reportDelivery(d *Delivery, call breaker.Call, lease *balance.Lease, trace *AttemptTrace, res *deliveryResult, result events.Result, took time.Duration) {
	switch result {
	case events.ResultSuccess:
		trace.endDelivery(result, nil)
		switch reported := rt.callForReport(d, call).WithStatus(res.response.Status).WithFault(res.fault != nil); res.class {
		case StatusRetryAfter:
			reported.RetryAfter(res.until)
		case StatusIgnored:
			reported.Cancel()
		default:
			lease.Succeeded()
			reported.Success(took)
		}
	case events.ResultCancelled:
		trace.endDelivery(result, nil)
		call.Cancel()
	default:
		f := res.newFailure()
		trace.endDelivery(result, f)
		if d.SuspectedPoison && res.connected { // the request may be the cause
			call.Cancel()
			return
		}
		if res.fault == nil { // otherwise no endpoint is the cause
			lease.Failed(f)
		}
		rt.Service.Observer.Failed(f.Type, 1)
		rt.Service.LogFailure(rt.Logger, f)
		rt.callForReport(d, call).WithStatus(res.response.Status).WithFault(res.fault != nil).Failure(f, took)
	}
}

// callForReport returns the call to report the result of d to. It acquires a permit of the half-open breaker for a suspected
// poison message, which was sent without one. If there is none left, reports on the returned call have no effect.
func (rt *Route) callForReport(d *Delivery, call breaker.Call) breaker.Call {
	if !d.SuspectedPoison || call.State != events.HalfOpen {
		return call
	}
	acquired, err := rt.Service.Breaker.Allow()
	if err != nil {
		return breaker.Call{}
	}
	return acquired
}

// maxDrainTime is the longest time for which a response's body is read.
const maxDrainTime = 2 * time.Second

// deliveryRequest returns the upstream request of d, to the endpoint of lease.
func (rt *Route) deliveryRequest(ctx context.Context, d *Delivery, lease *balance.Lease) *http.Request {
	u := &url.URL{RawQuery: d.Query, ForceQuery: d.EmptyQuery}
	lease.Target.SetURL(u, d.UpstreamPath)
	r := (&http.Request{Method: d.Method, URL: u, Header: d.Header, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(d.Body))}).WithContext(ctx)
	if len(d.Body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(d.Body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(d.Body)), nil }
	}
	if rt.Config.PreserveHost {
		r.Host = d.Host
	}
	rt.Via.AddOnce(d.Header)
	if d.Header["User-Agent"] == nil {
		d.Header["User-Agent"] = []string{""} // otherwise net/http sets its own
	}
	return r
}

// send sends r to the endpoint of lease, into which a fault may be injected, and returns the result. An incomplete response is a failure, but it is returned
// nevertheless: its status shows that the request has arrived.
func (rt *Route) send(r *http.Request, lease *balance.Lease, trace *AttemptTrace, state events.State, injected *fault.Fault) deliveryResult {
	if state == events.HalfOpen {
		lease.Pool.DiscardConnections() // connections from before the failure must not decide recovery
	}
	res, reqErr := lease.Pool.Do(r, rt.Config.Timeout, upstream.DoOptions{Connected: trace.Connected, RoundTrip: injected.RoundTrip})
	if reqErr != nil {
		return deliveryResult{connected: reqErr.Connected, failure: rt.failureOf(reqErr), err: reqErr, problem: reqErr.RequestProblem}
	}
	defer res.Close()
	trace.ResponseReceived(res.Response)
	drainTimer := time.AfterFunc(maxDrainTime, res.Close) // the next delivery does not wait for a long body
	body, bodyErr := rt.readDelivered(res)
	closedByTimer := !drainTimer.Stop()
	result := deliveryResult{connected: true, response: Delivered{
		Status: res.StatusCode, RetryAfter: message.ParseRetryAfter(res.Header.Get("Retry-After"), time.Now()),
	}}
	if injected != nil {
		result.response.Detail = injected.Describe(fmt.Sprintf("status %d", res.StatusCode))
	}
	result.class, result.until = rt.ClassifyStatus(res.StatusCode, res.Header.Get("Retry-After"))
	switch {
	case result.class == StatusFailure:
		result.failure = events.ErrorStatus
	case result.class != StatusSuccess:
	case bodyErr != nil && !closedByTimer:
		result.failure, result.incomplete = rt.failureOf(bodyErr), bodyErr
	case rt.FailsByContent(expression.Response{Status: res.StatusCode, Header: res.Header, Body: body}):
		result.failure = events.ErrorExpression // the queue, too, goes by the status only
	}
	return result
}

// maxDiscarded is how many bytes of the body of a response to a delivery are read, so that its connection can be
// reused.
const maxDiscarded = 64 << 10

// failureOf returns the upstream's failure for an error of Pool.Do; "" if it counts neither as a success nor as a failure.
func (rt *Route) failureOf(err *upstream.Error) events.ErrorType {
	if err.Local != "" {
		rt.Service.ReportLocalError(rt.Logger, err.Local, err)
	}
	return err.Failure
}
