package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cbproxy/internal/admin"
	"cbproxy/internal/statusview"
)

// forceStates are the states that force accepts.
var forceStates = []string{"open", "closed", "half-open", "auto"}

// forceRequest is the body of a force-state request.
type forceRequest struct {
	State    string `json:"state"`
	Duration string `json:"duration,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Scope    string `json:"scope"`
	Key      string `json:"key,omitempty"`
}

func newForceCommand() *cobra.Command {
	var flags adminFlags
	var o forceRequest
	var duration time.Duration
	c := &cobra.Command{
		Use:   "force SERVICE open|closed|half-open|auto",
		Short: "Force a breaker's state, or release it",
		Long: `Force the state of a breaker in a running proxy. open and closed hold until the duration ends or
auto releases them; half-open starts probing now. The suffix _service of SERVICE may be left out.
With --key, it is the breaker of one value of the header field breaker.by.header. The admin token
is required.`,
		Example: `  cbproxy force vms open --duration 10m --reason maintenance
  cbproxy force rag open --key tenant-7 --duration 1h
  cbproxy force vms_service auto --token-file /run/secrets/cbproxy`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return forceStates, cobra.ShellCompDirectiveNoFileComp
			}
			return flags.completeService(c, args, word)
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.State = args[1]
			switch {
			case !slices.Contains(forceStates, o.State):
				return invalid(fmt.Errorf("the state must be one of %s, got %q", strings.Join(forceStates, ", "), o.State))
			case o.Scope != "instance" && o.Scope != "fleet":
				return invalid(fmt.Errorf("--scope: must be instance or fleet, got %q", o.Scope))
			case c.Flags().Changed("key") && o.Key == "":
				return invalid(errors.New("--key: must not be empty"))
			case o.Key != "" && o.Scope == "fleet":
				return invalid(errors.New("--scope: must be instance with --key"))
			case c.Flags().Changed("duration") && duration <= 0:
				return invalid(fmt.Errorf("--duration: must be positive, got %v", duration))
			case duration > 0 && o.State != "open" && o.State != "closed":
				return invalid(errors.New("--duration: applies only to open and closed"))
			case duration > 0:
				o.Duration = duration.String()
			}
			client, err := flags.client()
			if err != nil {
				return err
			}
			content, err := client.force(c.Context(), args[0], o)
			if err != nil {
				return err
			}
			if o.Key != "" {
				return printContent(client, c.OutOrStdout(), content, func(k admin.Key) error {
					_, err := fmt.Fprintf(c.OutOrStdout(), "key %s of %s is %s, %s\n", clean(k.Key), clean(k.Service), k.State, holdText(k.Forced, client.now()))
					return err
				})
			}
			return printContent(client, c.OutOrStdout(), content, func(s admin.Service) error {
				_, err := fmt.Fprintf(c.OutOrStdout(), "%s is %s, %s\n", clean(s.ServiceName), s.State, holdText(s.Forced, client.now()))
				return warnNotPersisted(c.ErrOrStderr(), s.NotPersisted, err)
			})
		},
	}
	flags.add(c)
	c.Flags().DurationVar(&duration, "duration", 0, "how long open or closed holds (default until released)")
	c.Flags().StringVar(&o.Reason, "reason", "", "reason, for the log and the history")
	c.Flags().StringVar(&o.Key, "key", "", "a value of breaker.by.header, whose breaker is forced instead of the service's")
	c.Flags().StringVar(&o.Scope, "scope", "instance", "instance, or fleet for all that share a Redis")
	_ = c.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{"instance", "fleet"}, cobra.ShellCompDirectiveNoFileComp)) // fails for unknown flags only
	return c
}

// force sends the request and returns the resulting status of the service.
func (c *client) force(ctx context.Context, service string, o forceRequest) ([]byte, error) {
	path, _, err := c.servicePath(ctx, service, "force-state")
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(o)
	if err != nil {
		return nil, failure(err)
	}
	return c.call(ctx, http.MethodPost, path, body)
}

// holdText describes how long the state is forced, if it is.
func holdText(f *admin.Forced, now time.Time) string {
	if f == nil {
		return "no longer forced"
	}
	return "forced " + statusview.ForcedText(f, now)
}
