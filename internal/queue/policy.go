package queue

import (
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
}

// DefaultPolicy returns the policy of a queue without options. It also applies to messages in the store whose service has no configured
// queue.
func DefaultPolicy() Policy {
	return Policy{
		Capacity: 10_000, MaxAge: 24 * time.Hour, MaxAttempts: 100, Backoff: time.Second, MaxBackoff: 5 * time.Minute, Ordered: true,
	}
}

// remaining returns how long a message may still wait. It has expired if the result is not positive.
func (p *Policy) remaining(e *entry) time.Duration {
	return p.MaxAge - time.Since(acceptedAt(e.payload)) + time.Millisecond // the time is stored in milliseconds
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
