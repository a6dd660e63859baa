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

// KeeperConfig is what a Keeper is built from. What is not said to be optional is required.
type KeeperConfig struct {
	Store    Store
	Instance string
	// Services lists the services there are.
	Services func() []string
	// Current returns what is to be kept of a service as it is now; false if nothing is.
	Current func(service string) (State, bool)
	// Remembers tells which changes belong to the history.
	Remembers func(events.StateChanged) bool
	// Logger is told when the store fails, and when it works again; nil if the store tells
	// itself.
	Logger *slog.Logger
}

// Keeper writes to a store what becomes of breakers. While the store fails, it tries again
// and again, and writes the newest state in the end.
type Keeper struct {
	config KeeperConfig
	errors atomic.Uint64
	wait   *backoff.ExponentialBackOff
	told   time.Time
	open   bool // that it fails was told, and that it works again was not

	writing chan struct{}    // holds a token while a state is written, so that an older one never replaces a newer one
	saved   map[string]State // as they were written last; belongs to the holder of the token
}

const (
	keepFirstWait = 100 * time.Millisecond
	keepLongWait  = 4 * time.Second
	tellAgain     = time.Minute
	keepAtLeast   = 5 * time.Second
)

// NewKeeper returns a keeper that does nothing until Run.
func NewKeeper(c KeeperConfig) *Keeper {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = keepFirstWait, keepLongWait
	return &Keeper{config: c, wait: wait, writing: make(chan struct{}, 1), saved: map[string]State{}}
}

// Errors counts the writes that failed. It may be called at any moment.
func (k *Keeper) Errors() uint64 { return k.errors.Load() }

// Run writes what sub tells of until ctx is done. It is called once.
func (k *Keeper) Run(ctx context.Context, sub *events.Subscription) {
	for {
		soon, cancel := context.WithTimeout(ctx, keepAtLeast)
		e, missed, err := sub.Next(soon)
		cancel()
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			return
		}
		if missed > 0 || err != nil { // not everything that moves is told of
			k.saveAll(ctx)
		}
		switch e := e.(type) {
		case events.StateChanged:
			k.save(ctx, e.Service)
			if k.config.Remembers(e) {
				e.Time, e.Until = e.Time.UTC(), e.Until.UTC() // a history is read elsewhere, too
				k.persist(ctx, func() error {
					return k.config.Store.Append(ctx, events.HistoryEntry{StateChanged: e, Instance: k.config.Instance})
				})
			}
		case events.Forced:
			k.save(ctx, e.Service)
		case events.Reloaded: // an edit may move the end of an opening
			k.saveAll(ctx)
		}
	}
}

// Flush writes every state that has not been written as it is. It is for the end, when Run has
// returned.
func (k *Keeper) Flush(ctx context.Context) { k.saveAll(ctx) }

func (k *Keeper) saveAll(ctx context.Context) {
	for _, service := range k.config.Services() {
		k.save(ctx, service)
	}
}

func (k *Keeper) save(ctx context.Context, service string) {
	k.persist(ctx, func() error { return k.write(ctx, service) })
}

// write saves a service's state, unless it has been saved as it is.
func (k *Keeper) write(ctx context.Context, service string) error {
	select {
	case k.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-k.writing }()
	s, ok := k.config.Current(service)
	if !ok || s == k.saved[service] {
		return nil
	}
	if err := k.config.Store.Save(ctx, s); err != nil {
		return err
	}
	k.saved[service] = s
	return nil
}

// Sync saves a service's state, unless it has been saved as it is, and returns once the store has it. With an error, which ctx's
// end is too, the store does not have it yet, and Run goes on trying. It may be called at any moment.
func (k *Keeper) Sync(ctx context.Context, service string) error {
	done := make(chan error, 1)
	go func() { done <- k.write(ctx, service) }() // a disk that hangs does not look at ctx
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("save the state of %s: no answer from the store yet: %w", service, ctx.Err())
	}
}

// persist does something until it works, or it never will, or ctx is done.
func (k *Keeper) persist(ctx context.Context, do func() error) {
	for {
		err := do()
		if err == nil {
			k.worked()
			return
		}
		if ctx.Err() != nil {
			return
		}
		k.errors.Add(1)
		k.failing(err)
		if permanent := new(backoff.PermanentError); errors.As(err, &permanent) {
			return // others' must not wait for this one's
		}
		t := time.NewTimer(k.wait.NextBackOff())
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

// failing tells that writes fail, but not each time where every other one does.
func (k *Keeper) failing(err error) {
	if !k.open && k.config.Logger != nil && (k.told.IsZero() || time.Since(k.told) > tellAgain) {
		k.config.Logger.Error("what happens to breakers can't be kept, and is tried again until it can", "error", err)
		k.told, k.open = time.Now(), true
	}
}

func (k *Keeper) worked() {
	k.wait.Reset()
	if k.open {
		k.config.Logger.Info("what happens to breakers is kept again")
	}
	k.open = false
}
