package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/spf13/cobra"

	"cbproxy/internal/admin"
)

// health returns the health of the proxy, decoded and as the document received.
func (c *client) health(ctx context.Context) (h admin.Health, document []byte, err error) {
	document, err = c.get(ctx, "circuit-breakers/health")
	if err == nil {
		err = c.decode(document, &h)
	}
	if err == nil && h.Instance == "" { // every proxy has an instance name
		err = c.notAdminAPI()
	}
	return h, document, err
}

// queue returns the queued requests that match a query: of one service, whose name may lack the suffix _service, or of all
// services if service is "".
func (c *client) queue(ctx context.Context, service string, query url.Values) ([]byte, error) {
	if service == "" {
		return c.get(ctx, "queue?"+query.Encode())
	}
	var refused error
	for _, name := range candidateNames(service) {
		query.Set("service", name)
		content, err := c.get(ctx, "queue?"+query.Encode())
		if answer := (*refusal)(nil); !errors.As(err, &answer) || answer.status != http.StatusBadRequest {
			return content, err
		}
		refused = err
	}
	var all queueList
	content, err := c.get(ctx, "queue?limit=1")
	if err == nil {
		err = c.decode(content, &all)
	}
	if err == nil {
		_, err = resolve(service, all.Queues)
	}
	if err == nil { // the service exists, so the request was rejected for another reason
		err = refused
	}
	return nil, err
}

// candidateNames returns the full names that name may stand for.
func candidateNames(name string) []string { return []string{name, name + "_service"} }

// resolve returns the full name of a service; name may lack the suffix _service.
func resolve[V any](name string, known map[string]V) (string, error) {
	for _, n := range candidateNames(name) {
		if _, ok := known[n]; ok {
			return n, nil
		}
	}
	names := slices.Sorted(maps.Keys(known))
	return "", failure(fmt.Errorf("no service is named %q; there are: %s", name, clean(strings.Join(names, ", "))))
}

// servicePath returns the API path of what a service has, such as its faults, and the full name of the service.
func (c *client) servicePath(ctx context.Context, service, what string) (path, name string, err error) {
	h, _, err := c.health(ctx)
	if err != nil {
		return "", "", err
	}
	name, err = resolve(service, h.Services)
	return "circuit-breakers/" + url.PathEscape(name) + "/" + what, name, err
}

// completeService completes the first argument with the services of the proxy.
func (f *adminFlags) completeService(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	client, err := f.completionClient()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	h, _, err := client.health(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(h.Services)), func(name string) bool { return clean(name) != name })
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeQueued completes IDs of queued requests that are not among the arguments yet.
func (f *adminFlags) completeQueued(c *cobra.Command, args []string, _ string) (ids []string, _ cobra.ShellCompDirective) {
	client, err := f.completionClient()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list queueList
	content, err := client.get(c.Context(), "queue?limit=1000")
	if err != nil || client.decode(content, &list) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, q := range list.Requests {
		if clean(q.ID) == q.ID && !slices.Contains(args, q.ID) {
			ids = append(ids, fmt.Sprintf("%s\t%s, %s %s", q.ID, clean(q.State), clean(q.Method), short(q.Path, 40)))
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// completionClient returns a client with a short timeout, as the user waits for the completion.
func (f *adminFlags) completionClient() (*client, error) {
	f.timeout = min(f.timeout, time.Second)
	return f.client()
}

// streamSilence is the read timeout of an event stream, on which the server sends a comment every 15 s.
const streamSilence = 40 * time.Second

// follow calls notify with nil for each server-sent event, and with the reason each time the connection is lost, until
// ctx is done. It reconnects after delays that grow to 5 s.
func (c *client) follow(ctx context.Context, notify func(error)) {
	waits := &backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond, RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: 5 * time.Second}
	waits.Reset()
	for {
		err := c.stream(ctx, func() {
			waits.Reset()
			notify(nil)
		})
		if ctx.Err() != nil {
			return
		}
		notify(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(waits.NextBackOff()):
		}
	}
}

// stream opens one event stream and calls event for each event. It returns the reason for the end of the stream.
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
	lines.Buffer(nil, maxResponse)
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
		return errors.New("no data received from the proxy")
	case err != nil:
		return err
	}
	return errors.New("the proxy closed the connection")
}
