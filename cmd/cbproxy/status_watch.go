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

// watchPause is the least time between two looks, so that a burst of events is drawn as few pictures,
// the last of which has all of it. A look that fails is repeated after watchRetry.
const (
	watchPause = 100 * time.Millisecond
	watchRetry = time.Second
)

// news returns the latest that follow tells: nil for events, or why the connection is lost.
func (c *client) news(ctx context.Context, following *sync.WaitGroup) <-chan error {
	news := make(chan error, 1)
	following.Go(func() {
		c.follow(ctx, func(err error) {
			select {
			case <-news: // is overtaken
			default:
			}
			news <- err
		})
	})
	return news
}

// watch draws until ctx ends.
func (c *client) watch(ctx context.Context, w io.Writer, service string) error {
	p, _, err := c.look(ctx, service)
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
	news := c.news(ctx, &following)
	resized, tick := make(chan os.Signal, 1), new(time.Ticker)
	if screen.terminal != nil {
		signal.Notify(resized, syscall.SIGWINCH)
		defer signal.Stop(resized)
		tick = time.NewTicker(time.Second)
		defer tick.Stop()
	}
	due := news // nil while it is too early for another look
	pause := time.NewTimer(watchPause)
	defer pause.Stop()
	var trouble error
	failed := false // the last look did
	look := func() {
		var now *picture
		if now, _, trouble = c.look(ctx, service); trouble == nil {
			p = now
		}
		failed, due = trouble != nil, nil
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
			look()
		case trouble = <-due:
			if failed = false; trouble == nil {
				look()
			}
		case <-resized:
		case <-tick.C:
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := screen.show(p, trouble); err != nil {
			return failure(err)
		}
	}
}
