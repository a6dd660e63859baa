package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cbproxy/internal/admin"
	"cbproxy/internal/override"
	"cbproxy/internal/statusview"
)

// overrideOff is the argument that ends the overrides of a service.
const overrideOff = "off"

// overrideRequest is the body of a request to override keys.
type overrideRequest struct {
	Set      map[string]json.RawMessage `json:"set"`
	Duration string                     `json:"duration"`
	Reason   string                     `json:"reason,omitempty"`
}

func newOverrideCommand() *cobra.Command {
	var flags adminFlags
	var o overrideRequest
	var duration time.Duration
	c := &cobra.Command{
		Use:   "override SERVICE [KEY=VALUE... | off]",
		Short: "Change keys of a service's route for a while",
		Long: `Override keys of a service's route in a running proxy for a time, end all overrides of the service
(off), or list them. The suffix _service of SERVICE may be left out.

KEY is the path of a key below the route, such as timeout or breaker.fail_max; all keys but prefix,
listen, upstream and tls can be overridden. VALUE is as in the file; a list is [a, b]. The values are
checked as those of the file are, and replace all overrides of the service. They are in force at once,
over file and environment, until --duration has passed, which is at most 24h, also after a restart or
an edit of the file. What changes is shown as check --diff shows it. The admin token is required,
except to list.`,
		Example: `  cbproxy override rag breaker.fail_max=10 timeout=5s --duration 30m --reason 'slow disk'
  cbproxy override rag 'breaker.failure_statuses=[5xx, 429]' --duration 1h
  cbproxy override rag
  cbproxy override rag off`,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return []string{overrideOff + "\tend all overrides"}, cobra.ShellCompDirectiveNoFileComp
			}
			return flags.completeService(c, args, word)
		},
		RunE: func(c *cobra.Command, args []string) error {
			action := strings.Join(args[1:], " ")
			if err := o.check(c, args[1:], duration); err != nil {
				return invalid(err)
			}
			client, err := flags.client()
			if err != nil {
				return err
			}
			path, name, err := client.servicePath(c.Context(), args[0], "overrides")
			if err != nil {
				return err
			}
			switch action {
			case "":
				return client.listOverrides(c.Context(), c.OutOrStdout(), path)
			case overrideOff:
				path += "?" + url.Values{"reason": {o.Reason}}.Encode()
				return client.changeOverrides(c, http.MethodDelete, path, nil, func(ended admin.Overrides) string {
					return fmt.Sprintf("%s: %s ended", clean(name), plural(len(ended.Keys), "override"))
				})
			}
			body, err := json.Marshal(o)
			if err != nil {
				return failure(err)
			}
			return client.changeOverrides(c, http.MethodPut, path, body, func(set admin.Overrides) string {
				return fmt.Sprintf("%s: %s overridden %s", clean(name), plural(len(set.Keys), "key"), statusview.OverridesEndText(set, client.now()))
			})
		},
	}
	flags.add(c)
	c.Flags().DurationVar(&duration, "duration", 0, "how long the values stay in force, at most 24h; required")
	c.Flags().StringVar(&o.Reason, "reason", "", "reason, for log and events")
	return c
}

// check checks the arguments after the service and the flags, and completes o.
func (o *overrideRequest) check(c *cobra.Command, args []string, duration time.Duration) error {
	if len(args) == 0 || len(args) == 1 && args[0] == overrideOff {
		switch {
		case c.Flags().Changed("duration"):
			return errors.New("--duration: applies only to KEY=VALUE")
		case c.Flags().Changed("reason") && len(args) == 0:
			return errors.New("--reason: applies only to KEY=VALUE and off")
		}
		return nil
	}
	var err error
	o.Set, err = override.ParseArguments(args)
	switch o.Duration = duration.String(); {
	case err != nil:
		return err
	case !c.Flags().Changed("duration"):
		return errors.New("--duration: is required, such as --duration 30m")
	case duration <= 0 || duration > override.MaxDuration:
		return fmt.Errorf("--duration: must be positive and at most 24h, got %v", duration)
	}
	return nil
}

// changeOverrides sends a request that changes overrides, and prints a title and what has changed.
func (c *client) changeOverrides(command *cobra.Command, method, path string, body []byte, title func(admin.Overrides) string) error {
	content, err := c.call(command.Context(), method, path, body)
	if err != nil {
		return err
	}
	return printContent(c, command.OutOrStdout(), content, func(o admin.Overrides) error {
		_, err := fmt.Fprintf(command.OutOrStdout(), "%s\n%s", title(o), statusview.ChangesText(o.Changes))
		return warnNotPersisted(command.ErrOrStderr(), o.NotPersisted, err)
	})
}

// listOverrides prints the overrides of a service.
func (c *client) listOverrides(ctx context.Context, w io.Writer, path string) error {
	content, err := c.get(ctx, path)
	if err != nil {
		return err
	}
	return printContent(c, w, content, func(o admin.Overrides) error { return statusview.DrawOverrides(w, o, c.now()) })
}
