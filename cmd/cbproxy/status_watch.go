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
// the last of which has all of it.
const watchPause = 100 * time.Millisecond

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
	news := make(chan error, 1) // the latest: nil for events, or why the connection is lost
	following.Go(func() {
		c.follow(ctx, func(err error) {
			select {
			case <-news: // is overtaken
			default:
			}
			news <- err
		})
	})
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
	for trouble := error(nil); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
			due = news
			continue
		case trouble = <-due:
			if trouble == nil {
				var now *picture
				if now, _, trouble = c.look(ctx, service); trouble == nil {
					p = now
				}
			}
			due = nil
			pause.Reset(watchPause)
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
