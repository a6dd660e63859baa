package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cbproxy/internal/admin"
)

// health asks the proxy how it is. It returns the answer as it came, too.
func (c *client) health(ctx context.Context) (h admin.Health, document []byte, err error) {
	document, err = c.get(ctx, "circuit-breakers/health")
	if err == nil {
		err = c.decode(document, &h)
	}
	if err == nil && h.Instance == "" { // which every proxy has
		err = c.stranger()
	}
	return h, document, err
}

// queue returns the list that a query asks for, of one service, whose name may lack _service, or of
// all if it is "".
func (c *client) queue(ctx context.Context, service string, query url.Values) ([]byte, error) {
	if service == "" {
		return c.get(ctx, "queue?"+query.Encode())
	}
	var refused error
	for _, name := range spellings(service) {
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
	if err == nil { // there is such a service, and something else is wrong
		err = refused
	}
	return nil, err
}

// spellings are the names that a service may be meant by.
func spellings(name string) []string { return []string{name, name + "_service"} }

// resolve returns the service that a name stands for, which may lack _service.
func resolve[V any](name string, known map[string]V) (string, error) {
	for _, n := range spellings(name) {
		if _, ok := known[n]; ok {
			return n, nil
		}
	}
	names := slices.Sorted(maps.Keys(known))
	return "", failure(fmt.Errorf("no service is named %q; there are: %s", name, clean(strings.Join(names, ", "))))
}

// completeService completes the first argument by asking the proxy.
func (f *adminFlags) completeService(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	client, err := f.promptClient()
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

// completeQueued completes IDs of queued requests that are not there yet.
func (f *adminFlags) completeQueued(c *cobra.Command, args []string, _ string) (ids []string, _ cobra.ShellCompDirective) {
	client, err := f.promptClient()
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

// promptClient is client for completion: somebody waits at a prompt.
func (f *adminFlags) promptClient() (*client, error) {
	f.timeout = min(f.timeout, time.Second)
	return f.client()
}
