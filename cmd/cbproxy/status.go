package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Exit statuses of status --exit-code.
const (
	exitDegraded = 3
	exitCritical = 4
)

func newStatusCommand() *cobra.Command {
	var flags adminFlags
	var watch, exitCode bool
	c := &cobra.Command{
		Use:   "status [SERVICE]",
		Short: "Show a running proxy's breakers, or one with its history",
		Long: `Show the breakers of a running proxy at a glance, or one of them with its history, newest
first. SERVICE may be given without _service.

With --watch the picture is drawn anew on every event, ten times a second at most, and once a
second on a terminal, so that ages are right; counts of failures are those of the last event.
On a terminal it stays in its place, and shows what the window has room for.

With --exit-code the exit status is 0 if the proxy is healthy, 3 if it is degraded (a breaker
is open or forced), and 4 if it is critical (that of a service of priority 1 is).

-o json prints the health as the API says it; with a SERVICE, an object with what the API
says of it as service, and of its history as history.`,
		Example: `  cbproxy status
  cbproxy status rag --watch
  cbproxy status --exit-code -o json --admin http://10.0.0.7:9901`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: flags.completeService,
		RunE: func(c *cobra.Command, args []string) error {
			if watch && (exitCode || flags.output == "json") {
				return invalid(errors.New("--watch goes with neither --exit-code nor -o json"))
			}
			client, err := flags.client()
			if err != nil {
				return err
			}
			service := strings.Join(args, "")
			if watch {
				ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
				defer stop()
				context.AfterFunc(ctx, stop) // so that a second Ctrl-C ends it where writing hangs
				return client.watch(ctx, c.OutOrStdout(), service)
			}
			return client.status(c.Context(), c.OutOrStdout(), service, exitCode)
		},
	}
	flags.add(c)
	c.Flags().BoolVarP(&watch, "watch", "w", false, "draw anew on every event, until interrupted")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 if the proxy is degraded, with 4 if it is critical")
	return c
}

// status shows the proxy once.
func (c *client) status(ctx context.Context, w io.Writer, service string, exitCode bool) error {
	p, document, err := c.look(ctx, service)
	if err != nil {
		return err
	}
	if c.json {
		err = printJSON(w, document)
	} else {
		var b bytes.Buffer
		if err = p.draw(&b, newPainter(w), p.now()); err == nil {
			_, err = w.Write(b.Bytes())
		}
	}
	switch {
	case err != nil || !exitCode || p.health.Status == "healthy":
		return err
	case p.health.Status == "degraded":
		return &exitError{exitDegraded, errors.New("")}
	}
	return &exitError{exitCritical, errors.New("")}
}

// look asks the proxy how it is, and returns what to draw and what to print as JSON.
func (c *client) look(ctx context.Context, service string) (*picture, []byte, error) {
	p := &picture{taken: time.Now()}
	var document []byte
	var err error
	if p.health, document, err = c.health(ctx); err != nil {
		return nil, nil, err
	}
	content, err := c.get(ctx, "queue?limit=1")
	if err != nil {
		return nil, nil, err
	}
	var list queueList
	if err := c.decode(content, &list); err != nil {
		return nil, nil, err
	}
	p.queues = list.Queues
	if service == "" {
		return p, document, nil
	}
	if p.service, err = resolve(service, p.health.Services); err != nil {
		return nil, nil, err
	}
	history, err := c.get(ctx, "circuit-breakers/"+url.PathEscape(p.service)+"/history")
	if err != nil {
		return nil, nil, err
	}
	var raw struct {
		Services map[string]json.RawMessage
	}
	if err := errors.Join(c.decode(history, &p.history), c.decode(document, &raw)); err != nil {
		return nil, nil, err
	}
	document, err = json.Marshal(map[string]json.RawMessage{"service": raw.Services[p.service], "history": history})
	return p, document, err
}
