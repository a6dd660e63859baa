package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// streamSilence is how long nothing may come, when a sign of life comes every 15 s.
const streamSilence = 40 * time.Second

// follow calls tell for each server-sent event with nil, and each time the connection is lost with the
// reason, until ctx ends. It connects again, after waits that grow to 5 s.
func (c *client) follow(ctx context.Context, tell func(error)) {
	waits := &backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond, RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: 5 * time.Second}
	waits.Reset()
	for {
		err := c.stream(ctx, func() {
			waits.Reset()
			tell(nil)
		})
		if ctx.Err() != nil {
			return
		}
		tell(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(waits.NextBackOff()):
		}
	}
}

// stream calls event for each event of one connection, until it ends.
func (c *client) stream(ctx context.Context, event func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(c.timeout, func() { cancel(context.DeadlineExceeded) })
	defer silence.Stop()
	res, err := c.send(ctx, http.MethodGet, "events", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxAnswer)
	var data bool
	for lines.Scan() {
		silence.Reset(streamSilence)
		switch line := lines.Bytes(); {
		case len(line) == 0 && data: // the end of an event
			data = false
			event()
		case bytes.HasPrefix(line, []byte("data")):
			data = true
		}
	}
	switch err := lines.Err(); {
	case ctx.Err() != nil:
		return errors.New("the proxy says nothing any more")
	case err != nil:
		return err
	}
	return errors.New("the proxy has closed the connection")
}
