package fleet

import (
	"slices"
	"time"
)

const (
	// contactTimeout is how long Redis may not respond before an instance uses its local state
	// only.
	contactTimeout = 4 * time.Second
	// failureTimeout is the same for one service whose requests fail.
	failureTimeout = 2 * time.Second
	// failureLifetime is how long a failed request counts as failing if it is not repeated.
	failureLifetime = 10 * time.Second
)

// failure is the first and the last of consecutive failures of one kind of request. Each kind is
// recorded separately, because one may fail while others succeed, and may not be repeated soon.
type failure struct{ first, last time.Time }

// current reports whether the kind of request still counts as failing.
func (f *failure) current(now time.Time) bool {
	return !f.first.IsZero() && now.Sub(f.last) < failureLifetime
}

// disconnected reports whether Redis does not respond, or fails for this service. It is safe for
// concurrent use.
func (p *protocol) disconnected(now time.Time) bool {
	sinceContact, contacted := p.lastContact.since(now)
	sinceFailure, failed := p.lastFailure.since(now)
	return !contacted || sinceContact > contactTimeout || failed && sinceFailure < failureLifetime
}

// recordResult records whether a request of a kind has failed.
func (p *protocol) recordResult(kind requestKind, failed bool, now time.Time) {
	f := &p.failures[kind]
	switch {
	case !failed:
		*f = failure{}
	case !f.current(now):
		*f = failure{now, now}
	default:
		f.last = now
	}
	var last time.Time
	for _, f := range p.failures {
		if f.last.Sub(f.first) >= failureTimeout && f.last.After(last) {
			last = f.last
		}
	}
	if last.IsZero() {
		p.lastFailure.clear()
	} else {
		p.lastFailure.set(last)
	}
}

// anyFailing reports whether any kind of request counts as failing.
func (p *protocol) anyFailing(now time.Time) bool {
	return slices.ContainsFunc(p.failures[:], func(f failure) bool { return f.current(now) })
}
