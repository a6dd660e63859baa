package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"cbproxy/internal/events"
)

// PersisterConfig configures a Persister. All fields but Logger are required.
type PersisterConfig struct {
	Store    Store
	Instance string
	// Services returns the names of all services.
	Services func() []string
	// Current returns the current state of a service; false if there is nothing to save.
	Current func(service string) (State, bool)
	// RecordsHistory reports whether a change belongs to the history.
	RecordsHistory func(events.StateChanged) bool
	// Logger logs when the store fails and when it works again; nil if the store itself logs that.
	Logger *slog.Logger
}

// Persister writes the changes of breakers to a store. While the store fails it retries, and finally writes the newest state.
type Persister struct {
	config        PersisterConfig
	errors        atomic.Uint64
	wait          *backoff.ExponentialBackOff
	lastLogged    time.Time // when a failure was last logged; used by Run and Flush only, like the next field
	failureLogged bool      // a failure was logged, and the recovery was not yet

	writing chan struct{}    // a semaphore of size 1 held while a state is written, so that an older one never replaces a newer one
	saved   map[string]State // the states that were written last; guarded by writing
}

const (
	initialRetryDelay = 100 * time.Millisecond
	maxRetryDelay     = 4 * time.Second
	logInterval       = time.Minute     // the minimum between two logged failures
	saveInterval      = 5 * time.Second // every state is saved at least so often, because not every change has an event
)

// NewPersister returns a Persister. It does nothing until Run.
func NewPersister(c PersisterConfig) *Persister {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = initialRetryDelay, maxRetryDelay
	return &Persister{config: c, wait: wait, writing: make(chan struct{}, 1), saved: map[string]State{}}
}

// Errors returns the number of failed writes. Safe for concurrent use.
func (p *Persister) Errors() uint64 { return p.errors.Load() }

// Run writes the changes that sub delivers until ctx is done. It must be called once.
func (p *Persister) Run(ctx context.Context, sub *events.Subscription) {
	for {
		soon, cancel := context.WithTimeout(ctx, saveInterval)
		e, missed, err := sub.Next(soon)
		cancel()
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			return
		}
		if missed > 0 || err != nil { // some changes have no event
			p.saveAll(ctx)
		}
		switch e := e.(type) {
		case events.StateChanged:
			p.save(ctx, e.Service)
			if p.config.RecordsHistory(e) {
				e.Time, e.Until = e.Time.UTC(), e.Until.UTC() // the history is read on other hosts, too
				p.persist(ctx, func() error {
					return p.config.Store.Append(ctx, events.HistoryEntry{StateChanged: e, Instance: p.config.Instance})
				})
			}
		case events.UntilChanged:
			p.save(ctx, e.Service)
		case events.Forced:
			p.save(ctx, e.Service)
		case events.Reloaded: // an edit may change when a breaker stops being open
			p.saveAll(ctx)
		}
	}
}

// Flush writes every state that has changed since it was saved. It may be called only after Run has returned.
func (p *Persister) Flush(ctx context.Context) { p.saveAll(ctx) }

func (p *Persister) saveAll(ctx context.Context) {
	for _, service := range p.config.Services() {
		p.save(ctx, service)
	}
}

func (p *Persister) save(ctx context.Context, service string) {
	p.persist(ctx, func() error { return p.write(ctx, service) })
}

// write saves the state of a service unless it is unchanged.
func (p *Persister) write(ctx context.Context, service string) error {
	select {
	case p.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.writing }()
	s, ok := p.config.Current(service)
	if !ok || s == p.saved[service] {
		return nil
	}
	if err := p.config.Store.Save(ctx, s); err != nil {
		return err
	}
	p.saved[service] = s
	return nil
}

// Sync saves the state of a service unless it is unchanged, and returns when it is stored. If it returns an error, for example because
// ctx has ended, the state is not stored yet and Run keeps retrying. Safe for concurrent use.
func (p *Persister) Sync(ctx context.Context, service string) error {
	done := make(chan error, 1)
	go func() { done <- p.write(ctx, service) }() // a blocked disk ignores ctx
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("save the state of %s: no answer from the store yet: %w", service, ctx.Err())
	}
}

// persist calls do until it succeeds, fails permanently, or ctx is done.
func (p *Persister) persist(ctx context.Context, do func() error) {
	for {
		err := do()
		if err == nil {
			p.logSuccess()
			return
		}
		if ctx.Err() != nil {
			return
		}
		p.errors.Add(1)
		p.logFailure(err)
		if permanent := new(backoff.PermanentError); errors.As(err, &permanent) {
			return // other services must not wait for this one
		}
		t := time.NewTimer(p.wait.NextBackOff())
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

// logFailure logs that writes fail, at most once per logInterval.
func (p *Persister) logFailure(err error) {
	if !p.failureLogged && p.config.Logger != nil && (p.lastLogged.IsZero() || time.Since(p.lastLogged) > logInterval) {
		p.config.Logger.Error("cannot persist breaker state, retrying", "error", err)
		p.lastLogged, p.failureLogged = time.Now(), true
	}
}

// logSuccess resets the retry delay and logs that writes succeed again.
func (p *Persister) logSuccess() {
	p.wait.Reset()
	if p.failureLogged {
		p.config.Logger.Info("breaker state is persisted again")
	}
	p.failureLogged = false
}
