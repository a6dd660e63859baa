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

	"cbproxy/internal/statusview"
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
		Short: "Show the breakers of a running proxy, or one with its history",
		Long: `Show the breakers of a running proxy, or one of them with its history, newest first. The suffix
_service of SERVICE may be left out.

With --watch the output is redrawn on every event, at most ten times a second, and on a terminal
once a second to update ages; failure counts are those of the last event. On a terminal it is
redrawn in place and cut to the size of the window.

With --exit-code the exit status is 0 if the proxy is healthy, 3 if it is degraded (a breaker
is open or forced), and 4 if it is critical (the breaker of a priority 1 service is).

-o json prints the health response of the API; with a SERVICE, an object with its status in the
field service, its history in the field history, what its breaker has learnt in the field
baseline, and the overridden keys, if there are such, in the field overrides.`,
		Example: `  cbproxy status
  cbproxy status rag --watch
  cbproxy status --exit-code -o json --admin http://10.0.0.7:9901`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: flags.completeService,
		RunE: func(c *cobra.Command, args []string) error {
			if watch && (exitCode || flags.output == "json") {
				return invalid(errors.New("--watch cannot be combined with --exit-code or -o json"))
			}
			client, err := flags.client()
			if err != nil {
				return err
			}
			service := strings.Join(args, "")
			if watch {
				ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
				defer stop()
				context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process even if a write hangs
				return client.watch(ctx, c.OutOrStdout(), service)
			}
			return client.status(c.Context(), c.OutOrStdout(), service, exitCode)
		},
	}
	flags.add(c)
	c.Flags().BoolVarP(&watch, "watch", "w", false, "redraw on every event until interrupted")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 if the proxy is degraded, with 4 if it is critical")
	return c
}

// status prints the status once.
func (c *client) status(ctx context.Context, w io.Writer, service string, exitCode bool) error {
	p, document, err := c.fetchStatus(ctx, service)
	if err != nil {
		return err
	}
	if c.json {
		err = printJSON(w, document)
	} else {
		var b bytes.Buffer
		if err = p.Draw(&b, statusview.NewPainter(w), p.Now()); err == nil {
			_, err = w.Write(b.Bytes())
		}
	}
	switch {
	case err != nil || !exitCode || p.Health.Status == "healthy":
		return err
	case p.Health.Status == "degraded":
		return &exitError{exitDegraded, errors.New("")}
	}
	return &exitError{exitCritical, errors.New("")}
}

// fetchStatus fetches the status and returns what to draw and the JSON document to print.
func (c *client) fetchStatus(ctx context.Context, service string) (*statusview.Status, []byte, error) {
	p := &statusview.Status{Taken: time.Now()}
	var document []byte
	var err error
	if p.Health, document, err = c.health(ctx); err != nil {
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
	p.Queues = list.Queues
	if service == "" {
		return p, document, nil
	}
	if p.Service, err = resolve(service, p.Health.Services); err != nil {
		return nil, nil, err
	}
	document, err = c.fetchService(ctx, p, document)
	return p, document, err
}

// fetchService fetches what is shown of p.Service only, and returns the JSON document to print. health is the document with its status.
func (c *client) fetchService(ctx context.Context, p *statusview.Status, health []byte) ([]byte, error) {
	var raw struct {
		Services map[string]json.RawMessage
	}
	if err := c.decode(health, &raw); err != nil {
		return nil, err
	}
	document := map[string]json.RawMessage{"service": raw.Services[p.Service]}
	parts := map[string]any{"history": &p.History, "baseline": &p.Baseline} // by their names in document and API
	if p.Health.Services[p.Service].Overrides != nil {
		parts["overrides"] = &p.Overrides
	}
	for name, v := range parts {
		content, err := c.get(ctx, "circuit-breakers/"+url.PathEscape(p.Service)+"/"+name)
		if err == nil {
			err = c.decode(content, v)
		}
		if err != nil {
			return nil, err
		}
		document[name] = content
	}
	return json.Marshal(document)
}
