package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/service"
)

// errHedged is the cause with which the context of an attempt ends because another one, in flight at the same time, was faster.
var errHedged = errors.New("another attempt was answered first")

// hedging is the state of an exchange with a hedge: a second attempt that is sent while the first one has not been answered.
type hedging struct {
	first, second *attempt
	results       chan sent     // of both, buffered
	loser         *attempt      // whose response is not used; nil: not known yet
	pending       bool          // the loser's result has not been received
	drained       chan struct{} // closed when the loser's request has ended; nil: it is not in flight
}

// sent is the result of sending an attempt's request.
type sent struct {
	attempt *attempt
	out     *http.Request // that was sent last
	res     *http.Response
	err     error
}

// mayHedge reports whether the current attempt may get a hedge: it is the first one, and the service is not recovering.
func (x *exchange) mayHedge() bool {
	return x.retries.MayHedge() && x.outcome.Attempts == 1 && x.attempt.call.State == events.Closed
}

// doHedged is do for an attempt that may get a hedge. The attempt whose response is used becomes the current one.
func (x *exchange) doHedged(request *http.Request) (*http.Response, error) {
	first := x.attempt
	out, err := first.prepare(request)
	if err != nil {
		first.classify(err)
		return nil, err
	}
	h := &hedging{first: first, results: make(chan sent, 2)}
	go first.sendTo(h.results, out)
	timer := time.NewTimer(x.route.Config.Hedge.After)
	defer timer.Stop()
	select {
	case got := <-h.results:
		return first.receive(got.out, got.res, got.err)
	case <-timer.C:
	}
	if !x.sendHedge(h, request) {
		got := <-h.results
		return first.receive(got.out, got.res, got.err)
	}
	got := h.choose()
	x.endHedging(h, got)
	return got.attempt.receive(got.out, got.res, got.err)
}

// errPanic is the error of a request that was not sent because of a panic, which has been logged.
var errPanic = errors.New("panic while sending a request")

// sendTo sends the attempt's request and the result to results. A panic becomes errPanic, because it would end the process.
func (a *attempt) sendTo(results chan<- sent, out *http.Request) {
	s := sent{attempt: a, out: out}
	defer func() {
		if p := recover(); p != nil {
			a.x.logPanic(p)
			s.err = errPanic
		}
		results <- s
	}()
	s.out, s.res, s.err = a.send(out)
}

// sendHedge sends a second attempt, if the budgets and the request's body allow it.
func (x *exchange) sendHedge(h *hedging, request *http.Request) bool {
	body, ok := x.upload.Copy()
	if !ok || x.Err() != nil || h.first.admissionEnded() {
		return false
	}
	if ok, retriesSpent := x.retries.TakeHedge(); !ok {
		x.outcome.RetryBudgetSpent = x.outcome.RetryBudgetSpent || retriesSpent
		return false
	}
	x.tried = append(x.tried, h.first.lease.Endpoint)
	x.outcome.Attempts, x.outcome.Hedged = x.outcome.Attempts+1, true
	a := x.newHedge(h.first)
	out, err := a.prepare(a.requestFrom(request, body))
	if err != nil { // DNS has not answered yet
		a.stop(err)
		x.outcome.Attempts, x.outcome.Hedged = x.outcome.Attempts-1, false
		return false
	}
	h.first.interimMu.Lock()
	h.first.isHedged = true // from now on, neither sends interim responses
	h.first.interimMu.Unlock()
	h.second, x.hedging = a, h
	a.startTimer()
	go a.sendTo(h.results, out)
	return true
}

// newHedge returns an attempt that is made beside first.
func (x *exchange) newHedge(first *attempt) *attempt {
	a := &attempt{x: x, start: time.Now(), uploadWaitBefore: x.upload.CompletedReadTime(), isHedged: true, isHedge: true}
	a.call.State = first.call.State
	a.limits = x.newAttemptLimits(a.start)
	a.Context, a.stop = context.WithCancelCause(x)
	a.Context = httptrace.WithClientTrace(a.Context, new(httptrace.ClientTrace))
	return a
}

// requestFrom returns request with the context of a and with body, of which a has its own copy; nil: there is none.
func (a *attempt) requestFrom(request *http.Request, body []byte) *http.Request {
	out := request.WithContext(a)
	u := *request.URL
	out.URL = &u
	if body != nil {
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		out.Body, _ = out.GetBody()
	}
	return out
}

// choose returns the result that is used, and reports a failure of the other one: the first result that is no failure or, if both are, the
// last one, or the one with a response.
func (h *hedging) choose() sent {
	got := <-h.results
	if got.isUsable() {
		if h.loser, h.pending = h.first, true; got.attempt == h.first {
			h.loser = h.second
		}
		return got
	}
	got.attempt.setReturned() // its time limit must not end the response, which may be used
	if got.err != nil {
		got.reportLost() // now: the other one may take long
		h.loser = got.attempt
		return <-h.results
	}
	next := <-h.results
	if next.err != nil {
		got, next = next, got
	}
	h.loser = got.attempt
	got.reportLost()
	return next
}

// isUsable reports whether the result is a response that is no failure and would not be repeated.
func (s *sent) isUsable() bool {
	x := s.attempt.x
	return s.err == nil && x.route.IsUsable(s.res, x.grpc != nil)
}

// discard closes the response, which is not used.
func (s *sent) discard() {
	if s.res != nil {
		_ = s.res.Body.Close()
	}
}

// reportLost reports a failure that is not that of the exchange, because the other attempt's result is used: to the endpoint, the metrics
// and the log, but not to the breaker.
func (s *sent) reportLost() {
	s.discard()
	a, x := s.attempt, s.attempt.x
	outcome, call := x.outcome, a.call
	a.call, a.holdsBack = breaker.Call{}, false
	if s.err != nil {
		a.classify(s.err)
	} else if class, _ := x.route.ClassifyStatus(s.res.StatusCode, ""); class == service.StatusFailure {
		a.status = s.res.StatusCode
		a.reportFailure(events.ErrorStatus, fmt.Errorf("status %d", a.status))
	} else if x.grpc != nil && x.route.IsGRPCFailure(s.res) {
		a.evaluateGRPC(s.res.Header)
	}
	x.outcome, a.call = outcome, call
}

// endHedging makes the attempt of got the current one of the exchange, and cancels the other one.
func (x *exchange) endHedging(h *hedging, got sent) {
	won, call := got.attempt == h.second && got.isUsable(), h.first.call
	x.tried = append(x.tried[:len(x.tried)-1], h.loser.lease.Endpoint) // a retry adds the endpoint of the current attempt
	x.attempt = got.attempt
	x.attempt.call, x.attempt.holdsBack = call.WithFault(x.attempt.fault != nil), x.retries.Remaining() > 0 && x.route.Endpoints.HasOthers()
	x.outcome.Endpoint = got.attempt.lease.URL
	x.route.Service.Observer.Hedged(won)
	if h.second.trace != nil {
		h.second.trace.End.HedgeWon = won
	}
	h.loser.call, h.loser.reported = breaker.Call{}, true
	h.loser.setReturned()
	h.loser.cancel(errHedged)
	if !h.pending {
		h.loser.lease.Release()
		return
	}
	h.drained = make(chan struct{})
	go func() { // the response that is used may be an endless stream
		defer close(h.drained)
		late := <-h.results
		late.discard()
		h.loser.trace.ResponseEnded()
		h.loser.lease.Release()
	}()
}

// finishHedging ends the attempt whose response was not used, after the context of the exchange has ended.
func (x *exchange) finishHedging() {
	h := x.hedging
	if h == nil || h.loser == nil { // after a panic, no loser may be known
		return
	}
	if h.drained != nil {
		<-h.drained
	}
	result := x.outcome.Result
	if x.outcome.Result = events.ResultCancelled; h.loser.failure != nil {
		x.outcome.Result = events.ResultFailure
	}
	h.loser.end()
	x.outcome.Result = result
}
