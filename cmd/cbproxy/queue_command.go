package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/statusview"

	"github.com/spf13/cobra"
)

// queueList is a response of GET /api/v1/queue.
type queueList struct {
	Queues   map[string]events.QueueStatus
	Requests []events.QueuedRequest
	More     bool
}

func newQueueCommand() *cobra.Command {
	flags := new(adminFlags)
	c := &cobra.Command{
		Use:     "queue",
		Short:   "List, retry and drop queued requests of a running proxy",
		Example: "  cbproxy queue list --state dead",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	flags.add(c)
	c.AddCommand(newQueueListCommand(flags),
		newQueueActionCommand(flags, "retry", "Retry queued requests now, dead letters included", func(id string) (string, string) {
			return http.MethodPost, "queue/" + id + "/retry"
		}),
		newQueueActionCommand(flags, "drop", "Remove queued requests", func(id string) (string, string) {
			return http.MethodDelete, "queue/" + id
		}))
	return c
}

func newQueueListCommand(flags *adminFlags) *cobra.Command {
	var service, state, after string
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List queued requests, oldest first",
		Long:  "List queued requests, oldest first: waiting ones and dead letters with the reason, without header fields, queries and bodies.",
		Example: `  cbproxy queue list
  cbproxy queue list --service notifier --state dead --limit 10`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case state != "" && state != "waiting" && state != "dead":
				return invalid(fmt.Errorf("--state: must be waiting or dead, got %q", state))
			case limit < 1 || limit > 1000:
				return invalid(fmt.Errorf("--limit: must be from 1 to 1000, got %d", limit))
			case after != "" && (service == "" || state == ""):
				return invalid(errors.New("--after: needs --service and --state"))
			}
			client, err := flags.client()
			if err != nil {
				return err
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}, "state": {state}, "after": {after}}
			content, err := client.queue(c.Context(), service, query)
			if err != nil {
				return err
			}
			return printContent(client, c.OutOrStdout(), content, func(list queueList) error { return list.draw(c.OutOrStdout(), client.now()) })
		},
	}
	c.Flags().StringVar(&service, "service", "", "only requests of this service; the suffix _service may be left out")
	c.Flags().StringVar(&state, "state", "", "only waiting or dead requests")
	c.Flags().StringVar(&after, "after", "", "only requests after this ID; needs --service and --state")
	c.Flags().IntVar(&limit, "limit", 100, "maximum number of requests, up to 1000")
	// These fail for unknown flags only.
	_ = c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"waiting", "dead"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("service", func(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return flags.completeService(c, nil, word)
	})
	return c
}

// draw writes the list as a table.
func (l *queueList) draw(w io.Writer, now time.Time) error {
	if len(l.Requests) == 0 {
		_, err := fmt.Fprintln(w, "Nothing is queued.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tAGE\tREQUEST\tBYTES\tATTEMPTS\tNEXT IN\tLAST ERROR")
	for _, q := range l.Requests {
		next, reason := "-", q.LastError
		if q.State == "waiting" && q.NotBefore.After(now) {
			next = statusview.Age(q.NotBefore.Sub(now))
		}
		if q.Cause != "" {
			reason = q.Cause + ": " + reason
		}
		if q.Aside && q.State == "waiting" {
			reason = "set aside: " + reason
		}
		if reason == "" {
			reason = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s %s\t%d\t%d\t%s\t%s\n", clean(q.ID), clean(q.State), statusview.Age(now.Sub(q.Accepted)),
			clean(q.Method), short(q.Path, 40), q.Bytes, q.Attempts, next, short(reason, 60))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if !l.More {
		return nil
	}
	_, err := fmt.Fprintln(w, "There are more: see --limit and --after.")
	return err
}

// newQueueActionCommand returns a command that sends the same request for each given ID.
func newQueueActionCommand(flags *adminFlags, verb, what string, request func(id string) (method, path string)) *cobra.Command {
	return &cobra.Command{
		Use:               verb + " ID...",
		Short:             what,
		Long:              what + ". All IDs are tried, even if one fails. The admin token is required.\n-o json prints an array of the API responses.",
		Example:           "  cbproxy queue " + verb + " notifier_service.17 notifier_service.18",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: flags.completeQueued,
		RunE: func(c *cobra.Command, ids []string) error {
			client, err := flags.client()
			if err != nil {
				return err
			}
			answers, faults := []json.RawMessage{}, []error{}
			for i, id := range ids {
				method, path := request(url.PathEscape(id))
				content, err := client.call(c.Context(), method, path, nil)
				if err != nil {
					err = fmt.Errorf("%s: %w", clean(id), err)
					if left := len(ids) - i - 1; left > 0 && !concernsOneRequest(err) {
						faults = append(faults, fmt.Errorf("%w\nNot tried: %s", err, plural(left, "other request")))
						break
					}
					faults = append(faults, err)
					continue
				}
				answers = append(answers, bytes.TrimSpace(content))
				if !client.json {
					done := map[string]string{"retry": "is being retried", "drop": "dropped"}[verb]
					if _, err := fmt.Fprintf(c.OutOrStdout(), "%s %s\n", clean(id), done); err != nil {
						return err
					}
				}
			}
			if client.json {
				if err := printValue(c.OutOrStdout(), answers); err != nil {
					return failure(err)
				}
			}
			if len(faults) > 0 {
				return failure(errors.Join(faults...))
			}
			return nil
		},
	}
}

// concernsOneRequest reports whether an error concerns a single queued request, so that the same action may succeed for
// the remaining ones.
func concernsOneRequest(err error) bool {
	var refused *refusal
	return errors.As(err, &refused) && (refused.status == http.StatusNotFound || refused.status == http.StatusConflict || refused.status >= 500)
}
