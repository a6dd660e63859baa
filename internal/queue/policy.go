package queue

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Policy is how a service's queue works. It is never modified once it is in force.
type Policy struct {
	// Capacity is how many messages may wait, and how many dead ones are kept.
	Capacity int
	// MaxAge is how long a message may wait, and MaxAttempts how often it is tried.
	MaxAge      time.Duration
	MaxAttempts int
	// Backoff is the wait after a first failure. It doubles with each failure after that, with
	// jitter, up to MaxBackoff.
	Backoff, MaxBackoff time.Duration
	// Ordered is whether a message waits until those before it are delivered or dead.
	Ordered bool
	// Keys seals messages; nil leaves them as they are.
	Keys *Keyring
}

// defaultPolicy is for what is found in the store and no configuration speaks of.
var defaultPolicy = Policy{
	Capacity: 10_000, MaxAge: 24 * time.Hour, MaxAttempts: 100, Backoff: time.Second, MaxBackoff: 5 * time.Minute, Ordered: true,
}

// left returns how long a message may still wait; 0 or less is no longer.
func (p *Policy) left(e *entry) time.Duration {
	return p.MaxAge - time.Since(acceptedAt(e.payload)) + time.Millisecond // it is known to the millisecond
}

// wait returns how long to wait after a number of failures in a row.
func (p *Policy) wait(failures int) time.Duration {
	b := backoff.ExponentialBackOff{InitialInterval: p.Backoff, MaxInterval: p.MaxBackoff, Multiplier: 2, RandomizationFactor: 0.25}
	b.Reset()
	d := p.Backoff
	for range min(failures, 64) { // 2^64 is more than any bound
		d = b.NextBackOff()
	}
	return min(d, p.MaxBackoff)
}
