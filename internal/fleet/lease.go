package fleet

import (
	"fmt"
	"time"

	"cbproxy/internal/events"
)

const (
	// leaseTime is the duration of a lease: how long the fleet waits for a prober that has died.
	leaseTime = 3 * time.Second
	// leaseRenew is how often the prober renews the lease.
	leaseRenew = leaseTime / 3
	// leaseIdleRenew is how often it does so if it has no call to probe with, to find out whether
	// another instance wants the lease.
	leaseIdleRenew = leaseTime / 12
	// leaseIdleTimeout is how long an instance waits for a call to probe with before it releases a
	// lease that another instance wants. It is doubled for each further lease, and jittered.
	leaseIdleTimeout = leaseTime / 3
	// leaseMargin is how much earlier than in Redis a lease ends for its instance.
	leaseMargin = leaseTime / 20
)

// lease is the right to probe. The zero value is no lease.
type lease struct {
	token   string
	since   time.Time // when it was acquired
	renewed time.Time // when the request that acquired or renewed it was sent
	wanted  bool      // another instance waits for it
	// idleTimeout is how long this instance waits for a call to probe with before it releases a
	// lease that another instance wants.
	idleTimeout time.Duration
}

// until returns when the lease ends. It counts from the time at which the request was sent, which
// is earlier than that from which Redis counts.
func (l *lease) until() time.Time { return l.renewed.Add(leaseTime - leaseMargin) }

func (l *lease) valid(now time.Time) bool { return l.token != "" && now.Before(l.until()) }

// isProber reports whether the last known decision has made this instance the prober.
func (p *protocol) isProber() bool { return p.lease.token != "" && p.known.Prober == p.lease.token }

// leaseIdle reports whether this instance has a lease that another one wants, and has had no call
// to probe with for the idle timeout. The timeout grows with each lease and with each probe that
// has succeeded. Otherwise two instances with few calls could pass the lease to and fro without
// end, each time just before the next call.
func (p *protocol) leaseIdle(status *events.BreakerStatus, now time.Time) bool {
	if !p.lease.wanted || status.ProbesInFlight > 0 || p.breaker.Policy().ActiveProbing {
		return false
	}
	idle := now.Sub(p.lease.since)
	if sinceProbe, ok := p.lastProbe.since(now); ok {
		idle = min(idle, sinceProbe)
	}
	return idle > min(p.lease.idleTimeout<<(2*min(status.ProbesSucceeded, 2)), 10*leaseTime)
}

// newToken returns a token that is unique in the fleet.
func (p *protocol) newToken() string {
	return fmt.Sprintf("%s/%d", p.instance, p.tokenCount.Add(1))
}

// releaseLease gives up the lease, if there is one, and returns the request that releases it.
func (p *protocol) releaseLease() (r request) {
	if p.lease.token != "" {
		r.kind, r.token = release, p.lease.token
		p.lease = lease{}
	}
	return r
}
