package proxy

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

// Delivery is a request that is sent to a service's upstream without a client that waits.
type Delivery struct {
	Service string
	Method  string
	// Host is the client's, which goes upstream where the route has preserve_host.
	Host string
	// Rest is the raw path below the route's prefix, and Query the raw query.
	Rest, Query string
	EmptyQuery  bool // a question mark follows Rest, and no query
	// Header is sent as it is, with the proxy added to Via.
	Header http.Header
	Body   []byte
	// Suspect is whether it has failed several times before. The failure of a suspect that was sent is
	// not reported to the breaker, and a suspect takes no place of a half-open breaker.
	Suspect bool
}

// Delivered is an upstream's answer to a Delivery.
type Delivered struct {
	Status int
	// RetryAfter is how long the upstream wants to be left alone, 0 if it did not say.
	RetryAfter time.Duration
}

// DeliveryError is the error of a Delivery that was sent and got no answer.
type DeliveryError struct {
	Reason events.Reason
	// Unsent is whether the request can't have caused it: there was no connection, or this machine failed.
	Unsent bool
	Err    error
}

func (e *DeliveryError) Error() string { return e.Err.Error() }
func (e *DeliveryError) Unwrap() error { return e.Err }

// ErrNoService is the error of a Delivery to a service that no route has.
var ErrNoService = errors.New("no route has this service")

// Deliver sends d, once, if the service's breaker lets it, and tells that what came of it. The
// error is breaker.ErrOpen or breaker.ErrHalfOpenLimit where it does not, a *DeferredError,
// ErrNoService, or a *DeliveryError.
func (s *Server) Deliver(ctx context.Context, d *Delivery) (Delivered, error) {
	snap := s.acquire()
	defer snap.release()
	rt := snap.services[d.Service]
	if rt == nil {
		return Delivered{}, ErrNoService
	}
	b := rt.service.breaker
	if until := rt.service.reserved.until(b, time.Now()); !until.IsZero() {
		return Delivered{}, &DeferredError{until}
	}
	call, err := b.Allow()
	if err != nil {
		return Delivered{}, err
	}
	if d.Suspect && call.State == events.HalfOpen {
		call.Cancel() // the place is for those whose outcome tells whether the upstream has recovered
		call = breaker.Call{State: call.State}
	}
	return rt.deliver(ctx, d, call)
}

// Succeeded returns when the client's request began that was the last to be answered by a service's upstream
// without a failure; zero if none was, or no route has the service.
func (s *Server) Succeeded(service string) (began time.Time) {
	snap := s.acquire()
	defer snap.release()
	if rt := snap.services[service]; rt != nil {
		if at := rt.service.succeeded.Load(); at != 0 {
			began = time.Unix(0, at)
		}
	}
	return began
}

// deliver is told of by call, exactly once.
func (rt *route) deliver(ctx context.Context, d *Delivery, call breaker.Call) (answer Delivered, err error) {
	var trace *attemptTrace
	reported := false
	defer func() {
		if !reported {
			call.Cancel() // as it panics
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
		rt.verdict(d, call).Success(took)
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
		f := &events.Failure{Time: time.Now(), Type: kind, Detail: sanitize.Truncate("delivery: "+detail, maxDetail)}
		trace.delivered(events.ResultFailure, f)
		if d.Suspect && connected {
			call.Cancel()
			break
		}
		rt.service.observer.Failed(kind, 1)
		rt.service.failures.log(rt.logger, rt.service.name, f)
		rt.verdict(d, call).Failure(f, took)
	}
	if err != nil {
		err = &DeliveryError{reasonOf(kind), !connected || kind == "", err}
	}
	return answer, err
}

// verdict returns the call to report what came of d to. A suspect that was sent without a place of a
// half-open breaker takes one only now, if one is left.
func (rt *route) verdict(d *Delivery, call breaker.Call) breaker.Call {
	if !d.Suspect || call.State != events.HalfOpen {
		return call
	}
	late, err := rt.service.breaker.Allow()
	if err != nil {
		return breaker.Call{}
	}
	return late
}

// drainFor is for how long a response's body is read, at the longest.
const drainFor = 2 * time.Second

// deliveryRequest makes the upstream's request of d.
func (rt *route) deliveryRequest(ctx context.Context, d *Delivery) *http.Request {
	u := &url.URL{RawQuery: d.Query, ForceQuery: d.EmptyQuery}
	rt.target.Address(u, d.Rest)
	r := (&http.Request{Method: d.Method, URL: u, Header: d.Header, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(d.Body))}).WithContext(ctx)
	if len(d.Body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(d.Body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(d.Body)), nil }
	}
	if rt.config.PreserveHost {
		r.Host = d.Host
	}
	rt.via.AddOnce(d.Header)
	if d.Header["User-Agent"] == nil {
		d.Header["User-Agent"] = []string{""} // or net/http names itself
	}
	return r
}

// send returns the upstream's answer, whether there was a connection, and how it failed. kind is "" if it did not, or if
// the error counts neither as a success nor as a failure. A response that breaks off is a failure, but its status tells that
// the request has arrived.
func (rt *route) send(r *http.Request, trace *attemptTrace, state events.State) (answer Delivered, connected bool, kind events.ErrorType, err error) {
	if state == events.HalfOpen {
		rt.pool.Renew() // connections from before the failure must not decide recovery
	}
	res, failed := rt.pool.Do(r, rt.config.Timeout, trace.connected)
	if failed != nil {
		return answer, failed.Connected, rt.failureOf(failed), failed
	}
	defer res.Close()
	trace.answered(res.Response)
	enough := time.AfterFunc(drainFor, res.Close) // the request has arrived, and others wait
	broken := res.Discard(maxDiscarded)           // keeps the connection
	drained := enough.Stop()
	answer = Delivered{res.StatusCode, message.ParseRetryAfter(res.Header.Get("Retry-After"), time.Now())}
	switch {
	case rt.config.Breaker.FailureStatuses.Has(res.StatusCode):
		kind = events.ErrorStatus
	case broken != nil && drained: // a body may last longer than anything waits for it
		kind = rt.failureOf(broken)
	}
	return answer, true, kind, nil
}

// maxDiscarded is how much of the body of a response to a probe or a delivery is read, in bytes, so that its connection can
// be used again.
const maxDiscarded = 64 << 10

// failureOf returns the upstream's failure that err is, of a request of the proxy's own; "" if it counts neither as a success
// nor as a failure.
func (rt *route) failureOf(err *upstream.Error) events.ErrorType {
	if err.Local != "" {
		rt.service.failedLocally(rt.logger, err.Local, err)
	}
	return err.Failure
}
