package fleet

import (
	"cmp"
	"time"

	"cbproxy/internal/events"
)

const (
	// leaseLead is how long before the end of an opening instances try to acquire the lease.
	leaseLead = 400 * time.Millisecond
	// leaseRetry is how long an instance waits after it has failed to acquire the lease. It is
	// doubled for each further failure, up to the remaining duration of the lease.
	leaseRetry = leaseTime / 10
)

// election determines when this instance tries to acquire the lease.
type election struct {
	openingEnd  time.Time     // the end of the opening for which acquireAt was determined
	acquireAt   time.Time     // zero if this instance tries only once a call wants to probe
	lastAttempt time.Time     // zero if there was none
	failures    int           // consecutive attempts that failed because another instance had the lease
	leaseLeft   time.Duration // remaining duration of that lease at the last attempt
	leases      int           // number of leases that this instance has had
}

// acquireTime returns when to acquire the lease; zero if it is not needed. Instances whose own probe
// has failed last try later, so that another instance is more likely to probe next.
func (p *protocol) acquireTime(status *events.BreakerStatus, now time.Time) time.Time {
	e := &p.election
	if status.RetryAt.IsZero() && now.Before(e.openingEnd) {
		*e = election{openingEnd: now, acquireAt: now} // the opening was ended early
	}
	end := cmp.Or(status.RetryAt, e.openingEnd, now)
	if !end.Equal(e.openingEnd) {
		lead := min(leaseLead, status.RetryAt.Sub(status.Since)/2)
		share := 0.5 + 0.5*p.random()
		if p.known.Instance == p.instance && p.known.Cause == events.CauseProbeFailed {
			share /= 4
		}
		*e = election{openingEnd: end, acquireAt: end.Add(-time.Duration(float64(lead) * share))}
		if status.RetryAt.IsZero() {
			e.acquireAt = now
		}
	}
	if e.lastAttempt.IsZero() && p.known.Prober != "" && now.Before(e.openingEnd) {
		e.acquireAt, e.lastAttempt = time.Time{}, now // another instance has been faster
	}
	if e.acquireAt.IsZero() && (p.probeWanted.Load() || status.State == events.Closed) {
		e.acquireAt = e.lastAttempt.Add(p.jittered(min(leaseRetry<<e.failures, max(e.leaseLeft, leaseRetry))))
	}
	return e.acquireAt
}
