package proxy

import "time"

// attemptLimits are times until when an attempt must have a connection. They are not modified after newAttemptLimits: a transport may look
// them up later.
type attemptLimits struct {
	dial    time.Time // the dialer divides the time until then among the addresses of a name
	connect time.Time // so that another endpoint can be tried; zero: none
}

// newAttemptLimits returns the limits of an attempt that begins at start, of an exchange with retries.
func (x *exchange) newAttemptLimits(start time.Time) (l attemptLimits) {
	l.dial = x.began.Add(x.timeout())
	if n := x.retries.Remaining(); n > 0 && x.route.Endpoints.HasOthers() {
		l.connect = start.Add(l.dial.Sub(start) / time.Duration(n+1))
	}
	if limit := x.route.Config.AttemptTimeout; limit > 0 && start.Add(limit).Before(l.dial) {
		l.dial = start.Add(limit)
	}
	return l
}

// startTimer makes the attempt end when it has waited for the upstream for the route's attempt_timeout, if there is one. The timer is
// stopped when the transport has returned: then the response may be on its way to the client, and only the time limit of the exchange
// applies.
func (a *attempt) startTimer() {
	limit := a.x.route.Config.AttemptTimeout
	if limit == 0 {
		return
	}
	a.timer.Start(limit, a.waitForUpstream, func(paused bool) {
		if paused {
			a.cancel(errPaused)
			return
		}
		a.cancel(errAttemptTimeout)
	})
}

// waitForUpstream returns the time since the start, without the time in which the attempt has waited for the client's body. Safe for
// concurrent use.
func (a *attempt) waitForUpstream() time.Duration {
	x := a.x
	return time.Since(a.start) - (x.upload.ClientWait(time.Since(x.began)) - a.uploadWaitBefore)
}
