package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cbproxy/internal/events"
	"cbproxy/internal/fault"
	"cbproxy/internal/statusview"
)

// faultOff is the argument that ends the faults of a service.
const faultOff = "off"

// faultArguments are what fault accepts as its second argument, with descriptions.
var faultArguments = []string{
	"abort\tanswer with a status, without the upstream", "delay\twait before the request is sent",
	"reset\tfail like a reset connection, without the upstream", "cut\tbreak the upstream's response off", faultOff + "\tend all faults",
}

// faultRequest is the body of a request to inject a fault.
type faultRequest struct {
	Kind     events.FaultKind   `json:"kind"`
	Status   int                `json:"status,omitempty"`
	Delay    events.Duration    `json:"delay,omitzero"`
	Share    float64            `json:"share"`
	Duration events.Duration    `json:"duration"`
	Match    *events.FaultMatch `json:"match,omitempty"`
	Reason   string             `json:"reason,omitempty"`
}

func newFaultCommand() *cobra.Command {
	var flags adminFlags
	var o faultRequest
	var match string
	c := &cobra.Command{
		Use:   "fault SERVICE [abort|delay|reset|cut|off]",
		Short: "Inject faults into a service's requests, to rehearse a failure",
		Long: `Inject a fault into requests of a running proxy to a service's upstream, end all faults of the
service (off), or list them. The suffix _service of SERVICE may be left out.

  abort  answers with --status (default 503), without the upstream
  delay  waits for --delay before the request is sent
  reset  fails like a reset connection, without the upstream
  cut    breaks the upstream's response off in its body

A fault hits each attempt with the probability --share, until --duration has passed, which is at
most 1h. Breaker, retries, fallbacks, metrics and traces see it as a real failure. It ends when
the proxy stops. The admin token is required, except to list.`,
		Example: `  cbproxy fault rag abort --share 0.2 --duration 5m --reason rehearsal
  cbproxy fault rag delay --delay 2s --duration 1m --match-header 'X-Test: 1'
  cbproxy fault rag
  cbproxy fault rag off`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return faultArguments, cobra.ShellCompDirectiveNoFileComp
			}
			return flags.completeService(c, args, word)
		},
		RunE: func(c *cobra.Command, args []string) error {
			action := strings.Join(args[1:], "")
			if err := o.check(c, action, match); err != nil {
				return invalid(err)
			}
			client, err := flags.client()
			if err != nil {
				return err
			}
			path, name, err := client.servicePath(c.Context(), args[0], "faults")
			if err != nil {
				return err
			}
			switch action {
			case "":
				return client.listFaults(c.Context(), c.OutOrStdout(), path)
			case faultOff:
				return client.endFaults(c.Context(), c.OutOrStdout(), path, name, o.Reason)
			}
			return client.injectFault(c.Context(), c.OutOrStdout(), path, name, o)
		},
	}
	flags.add(c)
	c.Flags().Float64Var(&o.Share, "share", 1, "share of the requests that is hit, above 0 and at most 1")
	c.Flags().DurationVar((*time.Duration)(&o.Duration), "duration", 0, "how long the fault lasts, at most 1h; required")
	c.Flags().IntVar(&o.Status, "status", 0, "status of the answers of abort, from 200 to 599 (default 503)")
	c.Flags().DurationVar((*time.Duration)(&o.Delay), "delay", 0, "how long delay waits, at most 10m")
	c.Flags().StringVar(&match, "match-header", "", `hit only requests with this header field: "NAME: VALUE", or NAME for any value`)
	c.Flags().StringVar(&o.Reason, "reason", "", "reason, for log and events")
	return c
}

// check checks the flags of an action, a kind of fault, off, or "" to list, and completes o. match is the flag match-header.
func (o *faultRequest) check(c *cobra.Command, action, match string) error {
	if action == "" || action == faultOff {
		for _, name := range []string{"share", "duration", "status", "delay", "match-header", "reason"} {
			if c.Flags().Changed(name) && (action == "" || name != "reason") {
				return fmt.Errorf("--%s: applies only to abort, delay, reset and cut", name)
			}
		}
		return nil
	}
	o.Kind = events.FaultKind(action)
	switch {
	case !slices.Contains(events.FaultKinds[:], o.Kind):
		return fmt.Errorf("the fault must be one of abort, delay, reset, cut or off, got %q", action)
	case !c.Flags().Changed("duration"):
		return errors.New("--duration: is required, such as --duration 5m")
	case o.Duration <= 0 || time.Duration(o.Duration) > fault.MaxDuration:
		return fmt.Errorf("--duration: must be positive and at most %s, got %v", statusview.Age(fault.MaxDuration), o.Duration)
	case !(o.Share > 0 && o.Share <= 1):
		return fmt.Errorf("--share: must be above 0 and at most 1, got %v", o.Share)
	case c.Flags().Changed("status") && o.Kind != events.FaultAbort:
		return errors.New("--status: applies only to abort")
	case c.Flags().Changed("status") && (o.Status < 200 || o.Status > 599):
		return fmt.Errorf("--status: must be from 200 to 599, got %d", o.Status)
	case c.Flags().Changed("delay") && o.Kind != events.FaultDelay:
		return errors.New("--delay: applies only to delay")
	case o.Kind == events.FaultDelay && !c.Flags().Changed("delay"):
		return errors.New("--delay: is required, such as --delay 2s")
	case o.Kind == events.FaultDelay && (o.Delay <= 0 || time.Duration(o.Delay) > fault.MaxDelay):
		return fmt.Errorf("--delay: must be positive and at most %s, got %v", statusview.Age(fault.MaxDelay), o.Delay)
	case c.Flags().Changed("match-header"):
		name, value, _ := strings.Cut(match, ":")
		if o.Match = (&events.FaultMatch{Header: strings.TrimSpace(name), Value: strings.TrimSpace(value)}); o.Match.Header == "" {
			return fmt.Errorf(`--match-header: must be "NAME: VALUE" or NAME, got %q`, match)
		}
	}
	return nil
}

// injectFault injects a fault and prints it.
func (c *client) injectFault(ctx context.Context, w io.Writer, path, service string, o faultRequest) error {
	body, err := json.Marshal(o)
	if err != nil {
		return failure(err)
	}
	content, err := c.call(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	return printContent(c, w, content, func(f events.Fault) error {
		_, err := fmt.Fprintf(w, "%s: injecting %s\n", clean(service), statusview.FaultText(f, c.now()))
		return err
	})
}

// faults returns the faults of a service, decoded and as the document received.
func (c *client) faults(ctx context.Context, path string) (list []events.Fault, document []byte, err error) {
	if document, err = c.get(ctx, path); err == nil {
		err = c.decode(document, &list)
	}
	return list, document, err
}

// listFaults prints the faults of a service.
func (c *client) listFaults(ctx context.Context, w io.Writer, path string) error {
	list, document, err := c.faults(ctx, path)
	switch {
	case err != nil:
		return err
	case c.json:
		return printJSON(w, document)
	case len(list) == 0:
		_, err := fmt.Fprintln(w, "No faults are injected.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tFAULT\tSHARE\tMATCH\tENDS IN\tREASON")
	for _, f := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", clean(f.ID), statusview.FaultKindText(f), statusview.Percent(f.Share), cmp.Or(statusview.MatchText(f.Match), "-"),
			statusview.Age(f.Until.Sub(c.now())), cmp.Or(short(f.Reason, 60), "-"))
	}
	return t.Flush()
}

// endFaults ends the faults of a service and prints how many there were.
func (c *client) endFaults(ctx context.Context, w io.Writer, path, service, reason string) error {
	list, _, err := c.faults(ctx, path)
	if err != nil {
		return err
	}
	ended := []json.RawMessage{}
	for _, f := range list {
		content, err := c.call(ctx, http.MethodDelete, path+"/"+url.PathEscape(f.ID)+"?"+url.Values{"reason": {reason}}.Encode(), nil)
		if answer := (*refusal)(nil); errors.As(err, &answer) && answer.status == http.StatusNotFound {
			continue // it has ended meanwhile
		}
		if err != nil {
			return err
		}
		ended = append(ended, content)
	}
	if c.json {
		return printValue(w, ended)
	}
	_, err = fmt.Fprintf(w, "%s: %s ended\n", clean(service), plural(len(ended), "fault"))
	return err
}
