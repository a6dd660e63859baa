package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// watchPause is the minimum time between two fetches, so that a burst of events causes few redraws, the last of which
// shows all of it. A failed fetch is retried after watchRetry.
const (
	watchPause = 100 * time.Millisecond
	watchRetry = time.Second
)

// notifications returns a channel with the latest notification of follow: nil for events, or why the connection was lost.
func (c *client) notifications(ctx context.Context, following *sync.WaitGroup) <-chan error {
	news := make(chan error, 1)
	following.Go(func() {
		c.follow(ctx, func(err error) {
			select {
			case <-news: // superseded
			default:
			}
			news <- err
		})
	})
	return news
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
	screen := newScreen(w)
	if err := screen.show(p, nil); err != nil {
		return failure(err)
	}
	ctx, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer stop()
	news := c.notifications(ctx, &following)
	resized, tick := make(chan os.Signal, 1), new(time.Ticker)
	if screen.terminal != nil {
		signal.Notify(resized, syscall.SIGWINCH)
		defer signal.Stop(resized)
		tick = time.NewTicker(time.Second)
		defer tick.Stop()
	}
	due := news // nil while it is too early for another fetch
	pause := time.NewTimer(watchPause)
	defer pause.Stop()
	var connErr error
	failed := false // the last fetch failed
	fetch := func() {
		var now *picture
		if now, _, connErr = c.fetchStatus(ctx, service); connErr == nil {
			p = now
		}
		failed, due = connErr != nil, nil
		pause.Reset(map[bool]time.Duration{false: watchPause, true: watchRetry}[failed])
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
			if due = news; !failed {
				continue
			}
			fetch()
		case connErr = <-due:
			if failed = false; connErr == nil {
				fetch()
			}
		case <-resized:
		case <-tick.C:
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := screen.show(p, connErr); err != nil {
			return failure(err)
		}
	}
}
