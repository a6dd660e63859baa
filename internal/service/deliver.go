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

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
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
	// Rest is the raw path below the route's prefix, and Query the raw query.
	UpstreamPath, Query string
	EmptyQuery          bool // the target ends with a question mark
	// Header is sent as it is, with the proxy added to Via.
	Header http.Header
	Body   []byte
	// SuspectedPoison means that the request has failed several times before. If it was sent, its failure is not reported to the
	// breaker, and it takes no permit of a half-open breaker.
	SuspectedPoison bool
}

// Delivered is an upstream's response to a Delivery.
type Delivered struct {
	Status int
	// RetryAfter is the delay that the upstream asks for, 0 if none.
	RetryAfter time.Duration
}

// DeliveryError is the error of a Delivery that was sent and got no response.
type DeliveryError struct {
	Reason events.Reason
	// NotCausedByRequest means that the request is not the cause: there was no connection, or this machine has a shortage.
	NotCausedByRequest bool
	Err                error
}

func (e *DeliveryError) Error() string { return e.Err.Error() }
func (e *DeliveryError) Unwrap() error { return e.Err }

// ErrNoService is the error of a Delivery to a service without a route.
var ErrNoService = errors.New("no route has this service")

// Deliver sends d once, if the service's breaker admits it, and reports the result to the breaker. The error is
// breaker.ErrOpen or breaker.ErrHalfOpenLimit if the breaker rejects it, a *DeferredError, ErrNoService, or a *DeliveryError.
func (s *Manager) Deliver(ctx context.Context, d *Delivery) (Delivered, error) {
	snap := s.Acquire()
	defer snap.Release()
	rt := snap.routesByService[d.Service]
	if rt == nil {
		return Delivered{}, ErrNoService
	}
	b := rt.Service.Breaker
	if until := rt.Service.Reservation.until(b, time.Now()); !until.IsZero() {
		return Delivered{}, &DeferredError{until}
	}
	call, err := b.Allow()
	if err != nil {
		return Delivered{}, err
	}
	if d.SuspectedPoison && call.State == events.HalfOpen {
		call.Cancel() // the permit is for requests whose outcome shows whether the upstream has recovered
		call = breaker.Call{State: call.State}
	}
	return rt.deliver(ctx, d, call)
}

// Succeeded returns the start of the last client request that a service's upstream answered without a failure; zero if there
// is none, or no route has the service.
func (s *Manager) LastSuccess(service string) (began time.Time) {
	snap := s.Acquire()
	defer snap.Release()
	if rt := snap.routesByService[service]; rt != nil {
		if at := rt.Service.LastSuccess.Load(); at != 0 {
			began = time.Unix(0, at)
		}
	}
	return began
}

// deliver sends d and reports to call exactly once.
func (rt *Route) deliver(ctx context.Context, d *Delivery, call breaker.Call) (answer Delivered, err error) {
	var trace *AttemptTrace
	reported := false
	defer func() {
		if !reported {
			call.Cancel() // after a panic
			trace.delivered(events.ResultCancelled, nil)
		}
	}()
	start := time.Now()
	out := rt.deliveryRequest(ctx, d)
	trace = rt.tracedDelivery(out, call.State)
	answer, connected, kind, err := rt.send(out, trace, call.State)
	reported = true
	switch took := time.Since(start); {
	case err == nil && kind == "":
		trace.delivered(events.ResultSuccess, nil)
		rt.callForReport(d, call).Success(took)
	case err != nil && (ctx.Err() != nil || kind == ""):
		trace.delivered(events.ResultCancelled, nil)
		call.Cancel()
	default:
		detail := fmt.Sprintf("status %d", answer.Status)
		switch {
		case err != nil:
			detail = err.Error()
		case kind != events.ErrorStatus:
			detail += ", and then the response broke off"
		}
		f := &events.Failure{Time: time.Now(), Type: kind, Detail: sanitize.Truncate("delivery: "+detail, MaxFailureDetail)}
		trace.delivered(events.ResultFailure, f)
		if d.SuspectedPoison && connected {
			call.Cancel()
			break
		}
		rt.Service.Observer.Failed(kind, 1)
		rt.Service.Failures.Log(rt.Logger, rt.Service.Name, f)
		rt.callForReport(d, call).Failure(f, took)
	}
	if err != nil {
		err = &DeliveryError{ReasonOf(kind), !connected || kind == "", err}
	}
	return answer, err
}

// callForReport returns the call to report the result of d to. A suspect that was sent without a permit of a half-open breaker takes
// one only now, if one is left.
func (rt *Route) callForReport(d *Delivery, call breaker.Call) breaker.Call {
	if !d.SuspectedPoison || call.State != events.HalfOpen {
		return call
	}
	late, err := rt.Service.Breaker.Allow()
	if err != nil {
		return breaker.Call{}
	}
	return late
}

// drainFor is the longest time for which a response's body is read.
const maxDrainTime = 2 * time.Second

// deliveryRequest returns the upstream request of d.
func (rt *Route) deliveryRequest(ctx context.Context, d *Delivery) *http.Request {
	u := &url.URL{RawQuery: d.Query, ForceQuery: d.EmptyQuery}
	rt.Target.SetURL(u, d.UpstreamPath)
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

// send returns the upstream's response, whether there was a connection, and how the request failed. kind is "" if it did not
// fail, or if the error counts neither as a success nor as a failure. A response that breaks off is a failure, but its status
// shows that the request has arrived.
func (rt *Route) send(r *http.Request, trace *AttemptTrace, state events.State) (answer Delivered, connected bool, kind events.ErrorType, err error) {
	if state == events.HalfOpen {
		rt.Pool.DiscardConnections() // connections from before the failure must not decide recovery
	}
	res, failed := rt.Pool.Do(r, rt.Config.Timeout, trace.Connected)
	if failed != nil {
		return answer, failed.Connected, rt.failureOf(failed), failed
	}
	defer res.Close()
	trace.ResponseReceived(res.Response)
	enough := time.AfterFunc(maxDrainTime, res.Close) // the request has arrived, and the next one waits
	broken := res.Discard(maxDiscarded)               // reading it keeps the connection
	drained := enough.Stop()
	answer = Delivered{res.StatusCode, message.ParseRetryAfter(res.Header.Get("Retry-After"), time.Now())}
	switch {
	case rt.Config.Breaker.FailureStatuses.Has(res.StatusCode):
		kind = events.ErrorStatus
	case broken != nil && drained: // a body may last longer than drainFor
		kind = rt.failureOf(broken)
	}
	return answer, true, kind, nil
}

// maxDiscarded is how many bytes of the body of a response to a probe or a delivery are read, so that its connection can be
// used again.
const maxDiscarded = 64 << 10

// failureOf returns the upstream's failure for an error of Pool.Do; "" if it counts neither as a success nor as a failure.
func (rt *Route) failureOf(err *upstream.Error) events.ErrorType {
	if err.Local != "" {
		rt.Service.FailedLocally(rt.Logger, err.Local, err)
	}
	return err.Failure
}
