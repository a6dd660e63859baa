package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"cbproxy/internal/statusview"
)

// watchPause is the minimum time between two fetches, so that a burst of events causes few redraws, the last of which
// shows all of it. A failed fetch is retried after watchRetry.
const (
	watchPause = 100 * time.Millisecond
	watchRetry = time.Second
)

// notifications returns a channel with the latest notification of follow: nil for an event, or the reason why the connection
// was lost. The goroutine that sends them is added to wg.
func (c *client) notifications(ctx context.Context, wg *sync.WaitGroup) <-chan error {
	updates := make(chan error, 1)
	wg.Go(func() {
		c.follow(ctx, func(err error) {
			select {
			case <-updates: // superseded
			default:
			}
			updates <- err
		})
	})
	return updates
}

// watch redraws the status until ctx is done.
func (c *client) watch(ctx context.Context, w io.Writer, service string) error {
	p, _, err := c.fetchStatus(ctx, service)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	screen := statusview.NewScreen(w)
	if err := screen.Show(p, nil); err != nil {
		return failure(err)
	}
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	updates := c.notifications(ctx, &wg)
	resized, tick := make(chan os.Signal, 1), new(time.Ticker)
	if screen.InPlace() {
		signal.Notify(resized, syscall.SIGWINCH)
		defer signal.Stop(resized)
		tick = time.NewTicker(time.Second)
		defer tick.Stop()
	}
	ready := updates // nil while it is too early for another fetch
	pause := time.NewTimer(watchPause)
	defer pause.Stop()
	var connErr error
	failed := false // the last fetch failed
	fetch := func() {
		var now *statusview.Status
		if now, _, connErr = c.fetchStatus(ctx, service); connErr == nil {
			p = now
		}
		failed, ready = connErr != nil, nil
		pause.Reset(map[bool]time.Duration{false: watchPause, true: watchRetry}[failed])
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
			if ready = updates; !failed {
				continue
			}
			fetch()
		case connErr = <-ready:
			if failed = false; connErr == nil {
				fetch()
			}
		case <-resized:
		case <-tick.C:
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := screen.Show(p, connErr); err != nil {
			return failure(err)
		}
	}
}
