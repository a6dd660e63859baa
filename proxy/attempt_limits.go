package proxy

import (
	"time"

	"cbproxy/internal/upstream"
)

// attemptLimits are the time limits of an attempt of an exchange with a retryState. The times are not modified after newAttemptLimits:
// a transport may look them up later.
type attemptLimits struct {
	dial    time.Time // the dialer divides the time until then among the addresses of a name
	connect time.Time // by which there must be a connection, so that another endpoint can be tried; zero: none

	timer         *time.Timer   // calls timeOut; nil: there is no attempt_timeout
	pausedAtStart time.Duration // upstream.Paused at the start
	extended      bool          // timeOut has extended the time because the process was paused; guarded by attempt.interimMu
}

// newAttemptLimits returns the time limits of an attempt that begins at start.
func (x *exchange) newAttemptLimits(start time.Time) (l attemptLimits) {
	if x.retries == nil {
		return l
	}
	l.dial = x.began.Add(x.timeout())
	if n := x.retries.remaining; n > 0 && x.route.Endpoints.HasOthers() {
		l.connect = start.Add(l.dial.Sub(start) / time.Duration(n+1))
	}
	if limit := x.route.Config.AttemptTimeout; limit > 0 && start.Add(limit).Before(l.dial) {
		l.dial = start.Add(limit)
	}
	return l
}

// startTimeout makes the attempt end when it has waited for the upstream for the route's attempt_timeout, if there is one. Once the
// transport has returned, the response may be on its way to the client, and only the time limit of the exchange applies.
func (a *attempt) startTimeout() {
	if limit := a.x.route.Config.AttemptTimeout; limit > 0 {
		a.limits.pausedAtStart = upstream.Paused()
		a.interimMu.Lock() // timeOut may use the timer
		a.limits.timer = time.AfterFunc(limit, a.timeOut)
		a.interimMu.Unlock()
	}
}

// pauseExtension is how long the responses that arrived while the process was paused have to be read.
const pauseExtension = 500 * time.Millisecond

// timeOut is called when the time limit may have passed, on a goroutine of its own.
func (a *attempt) timeOut() {
	a.interimMu.Lock()
	defer a.interimMu.Unlock()
	if a.returned || a.Err() != nil {
		return
	}
	if rest := a.x.route.Config.AttemptTimeout - a.waitForUpstream(); rest > 0 { // the client was slow
		a.limits.timer.Reset(max(rest, 10*time.Millisecond))
		return
	}
	switch paused := upstream.Paused() > a.limits.pausedAtStart; {
	case paused && !a.limits.extended:
		a.limits.extended = true
		a.limits.timer.Reset(pauseExtension)
	case paused:
		a.cancel(errPaused)
	default:
		a.cancel(errAttemptTimeout)
	}
}

// waitForUpstream returns the time since the start, without the time in which the attempt has waited for the client's body. Safe for
// concurrent use.
func (a *attempt) waitForUpstream() time.Duration {
	x := a.x
	return time.Since(a.start) - (x.upload.ClientWait(time.Since(x.began)) - a.uploadWaitBefore)
}
