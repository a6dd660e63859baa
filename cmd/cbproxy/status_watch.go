package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// watch draws until ctx ends.
func (c *client) watch(ctx context.Context, w io.Writer, service string) error {
	p, _, err := c.look(ctx, service)
	if err != nil {
		return err
	}
	changed, lost := make(chan struct{}, 1), make(chan error, 1)
	go c.follow(ctx, func() {
		select {
		case changed <- struct{}{}:
		default: // a look is due already
		}
	}, func(err error) {
		select {
		case lost <- err:
		default:
		}
	})
	screen := screen{w: w, terminal: isTerminal(w), paint: newPainter(w)}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	if err := screen.show(p, nil); err != nil {
		return failure(err)
	}
	for trouble := error(nil); ; {
		select {
		case <-ctx.Done():
			return nil
		case trouble = <-lost:
		case <-changed:
			now, _, err := c.look(ctx, service)
			if trouble = err; err == nil {
				p = now
			}
		case <-tick.C:
			if !screen.terminal {
				continue
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := screen.show(p, trouble); err != nil {
			return failure(err)
		}
	}
}

// screen shows one picture after another: in the same place on a terminal, else below each other.
type screen struct {
	w        io.Writer
	terminal bool
	paint    painter
}

func (s *screen) show(p *picture, trouble error) error {
	var b bytes.Buffer
	if trouble != nil {
		fmt.Fprintf(&b, "%s %s\n", s.paint.paint(red, "CONNECTION LOST, what follows is old:"), clean(trouble.Error()))
	}
	if err := p.draw(&b, s.paint, p.now()); err != nil {
		return err
	}
	text := b.String() + "\n"
	if s.terminal { // home, each line cleared behind its text, and what is below it
		text = "\x1b[H" + strings.ReplaceAll(b.String(), "\n", "\x1b[K\n") + "\x1b[J"
	}
	_, err := io.WriteString(s.w, text)
	return err
}
