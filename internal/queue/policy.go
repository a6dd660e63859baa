package queue

import (
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Policy configures the queue of a service. It is immutable once passed to Queues.Configure.
type Policy struct {
	// Capacity is the largest number of waiting messages, and of dead ones.
	Capacity int
	// MaxAge is how long a message may wait, and MaxAttempts the number of attempts.
	MaxAge      time.Duration
	MaxAttempts int
	// Backoff is the delay after the first failure. It doubles with each further failure, with jitter, up to MaxBackoff.
	Backoff, MaxBackoff time.Duration
	// Ordered is whether a message waits until those before it are delivered, dead or set aside.
	Ordered bool
	// Keys encrypts messages; nil stores them unencrypted.
	Keys *Keyring

	unconfigured bool // see unconfiguredPolicy
}

// unconfiguredPolicy returns the policy of a service that has messages in the store, but no queue in the configuration. Nothing is given
// up, because its limits and keys are not known.
func unconfiguredPolicy() Policy {
	p := DefaultPolicy()
	p.Capacity, p.MaxAge, p.MaxAttempts, p.unconfigured = math.MaxInt, 100*365*24*time.Hour, math.MaxInt, true
	return p
}

// RemovePolicies removes the policies of the services for which configured returns false, so that their queues are as after a restart without
// these policies, see unconfiguredPolicy. In particular, they take over no messages of other instances. Messages that are encrypted can still
// be delivered. Configure must not be called at the same time.
func (q *Queues) RemovePolicies(configured func(service string) bool) {
	for service, w := range q.allWorkers() {
		old := w.policy.Load()
		if old.unconfigured || configured(service) {
			continue
		}
		p := unconfiguredPolicy()
		p.Backoff, p.MaxBackoff, p.Ordered, p.Keys = old.Backoff, old.MaxBackoff, old.Ordered, old.Keys
		w.policy.Store(&p)
		w.Notify()
	}
}

// DefaultPolicy returns the policy of a queue without options.
func DefaultPolicy() Policy {
	return Policy{
		Capacity: 10_000, MaxAge: 24 * time.Hour, MaxAttempts: 100, Backoff: time.Second, MaxBackoff: 5 * time.Minute, Ordered: true,
	}
}

// remaining returns how long a message may still wait. It has expired if the result is not positive.
func (p *Policy) remaining(e *entry) time.Duration {
	since := acceptedAt(e.payload)
	if e.delivery.Requeued.After(since) {
		since = e.delivery.Requeued
	}
	return p.MaxAge - time.Since(since) + time.Millisecond // the time is stored in milliseconds
}

// delay returns how long to wait after a number of consecutive failures.
func (p *Policy) delay(failures int) time.Duration {
	b := backoff.ExponentialBackOff{InitialInterval: p.Backoff, MaxInterval: p.MaxBackoff, Multiplier: 2, RandomizationFactor: 0.25}
	b.Reset()
	d := p.Backoff
	for range min(failures, 64) { // 2^64 exceeds any MaxBackoff
		d = b.NextBackOff()
	}
	return min(d, p.MaxBackoff)
}
