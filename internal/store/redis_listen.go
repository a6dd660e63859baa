package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/go-redis/v9"
)

const (
	listenSilence  = 2 * time.Second // until the connection is tested
	listenPatience = time.Second     // for the answer
	listenMaxWait  = 2 * time.Second // between attempts to connect
	listenLong     = 5 * time.Second // a connection that lasted so long was a good one
)

// Listener is told what comes over the events channel. Its methods are called one at a time.
type Listener interface {
	// Connected is called when decisions are heard from now on. Those before may have been
	// missed.
	Connected()
	// Alive is called whenever Redis was heard of, at least every few seconds.
	Alive()
	// Decided is called with a decision.
	Decided(s State)
}

// Listen tells l of decisions, and connects again when the connection is lost, until ctx is
// done.
func (r *Redis) Listen(ctx context.Context, l Listener) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, listenMaxWait
	for ctx.Err() == nil {
		begin := time.Now()
		err := r.listen(ctx, l)
		r.note("listen", err, ctx)
		if time.Since(begin) > listenLong {
			wait.Reset()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// listen returns why the connection was lost, or not made.
func (r *Redis) listen(ctx context.Context, l Listener) error {
	sub := r.client.Subscribe(ctx, r.config.Namespace+eventsChannel)
	defer sub.Close()
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })() // which ends a wait
	tested := false
	for {
		patience := listenSilence
		if tested {
			patience = listenPatience
		}
		var message any
		err := recovered(func() (err error) {
			message, err = sub.ReceiveTimeout(ctx, patience)
			return err
		})
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case tested || !errors.Is(plainError(err), errNoAnswer):
			return r.explain("listen to decisions", err)
		default:
			if err := sub.Ping(ctx); err != nil {
				return r.explain("listen to decisions", err)
			}
			tested = true
			continue
		}
		tested = false
		switch m := message.(type) {
		case *redis.Subscription:
			l.Connected()
		case *redis.Message:
			var fields map[string]string
			if json.Unmarshal([]byte(m.Payload), &fields) != nil {
				break
			}
			if s, found, err := parseFields(fields["service_name"], fields); found && err == nil {
				l.Decided(s)
			}
		}
		r.note("listen", nil, ctx)
		l.Alive()
	}
}
