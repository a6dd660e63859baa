package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cbproxy/internal/breaker"
	"cbproxy/internal/service"
	"cbproxy/internal/simulate"
	"cbproxy/routes"
)

// simulateCommand has the flags of the command simulate.
type simulateCommand struct {
	adminFlags
	recordFlags
	against, html string
}

func newSimulateCommand() *cobra.Command {
	s := new(simulateCommand)
	c := &cobra.Command{
		Use:   "simulate [OUTCOMES... | -]",
		Short: "Show what thresholds would have done with recorded calls",
		Long: `Run recorded calls, at the times they had, through the real breaker with the thresholds of a
configuration file, and show what would have happened; with --against beside those of a second file.

OUTCOMES are files with the lines of GET /api/v1/outcomes, or of the access log in JSON; - is standard
input. Without them the running proxy is asked for its record. With --scenario calls are made up
instead, to an upstream that has a fault in the middle half of the time:

  dead      no connection
  slow      answers in 4 to 12 s
  flaky     three calls in ten fail
  brownout  becomes slower and fails more and more, and recovers
  flapping  fails for every other 10 s

The same input always has the same result. The record does not tell how a call would have ended that
was not made, what retries would have done, and what another timeout would have changed. Calls that were
not made, and would be, are counted as unknown.`,
		Example: `  cbproxy simulate --config edited.yaml --against config.yaml
  cbproxy simulate --service rag_service --since 2h -o json
  cbproxy simulate --scenario flaky --rate 50 --minutes 5 --html flaky.html
  jq -c 'select(.msg == "request")' access.log | cbproxy simulate -`,
		RunE: func(c *cobra.Command, args []string) error { return s.run(c, args) },
	}
	s.adminFlags.add(c)
	s.recordFlags.add(c, &s.adminFlags)
	flags := c.Flags()
	flags.StringVar(&s.against, "against", "", "second configuration file to compare with")
	flags.StringVar(&s.html, "html", "", "file to write a page with charts to, instead of the table")
	// These fail for unknown flags only.
	_ = c.MarkFlagFilename("against", "yaml", "yml")
	_ = c.MarkFlagFilename("html", "html")
	return c
}

func (s *simulateCommand) run(c *cobra.Command, args []string) error {
	client, err := s.client() // checks the flags
	if err != nil {
		return err
	}
	if s.html != "" && client.json {
		return invalid(errors.New("--html cannot be combined with -o json"))
	}
	config, err := loadChecked(c.ErrOrStderr(), s.config)
	if err != nil {
		return err
	}
	var against *routes.Config
	if s.against != "" {
		if against, err = loadChecked(c.ErrOrStderr(), s.against); err != nil {
			return err
		}
	}
	record, err := s.read(c, client, config, args)
	if err != nil {
		return err
	}
	report, skipped := simulate.Compare(record, policiesOf(config), policiesOf(against))
	s.noteSkipped(c.ErrOrStderr(), skipped)
	if s.html != "" {
		return s.writePage(c.OutOrStdout(), report, record)
	}
	if client.json {
		return printValue(c.OutOrStdout(), report)
	}
	if len(report.Services) == 0 {
		_, err := fmt.Fprintln(c.OutOrStdout(), "There are no calls in the record.")
		return err
	}
	o := simulate.TextOptions{Config: s.config, Against: s.against, Timeline: timelineWidth(c.OutOrStdout(), len(s.config), len(s.against))}
	if err := report.WriteText(c.OutOrStdout(), o); err != nil || o.Timeline == 0 {
		return err
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), "\n"+simulate.TimelineLegend)
	return err
}

// writePage writes the page with charts.
func (s *simulateCommand) writePage(w io.Writer, report *simulate.Report, record simulate.Record) error {
	var b bytes.Buffer
	if err := report.WriteHTML(&b, record, s.config, s.against); err != nil {
		return failure(err)
	}
	if err := os.WriteFile(s.html, b.Bytes(), 0o644); err != nil { // #nosec G306 -- a page to be shown to others, without secrets
		return failure(err)
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", s.html, plural(len(report.Services), "service"))
	return err
}

// timelineWidth returns the width of a timeline beside the names of files with the given lengths; 0 if w is no terminal.
func timelineWidth(w io.Writer, names ...int) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	longest := 0
	for _, n := range names {
		longest = max(longest, n)
	}
	return min(max(width-longest-2, 0), 120)
}

// policiesOf returns the breaker policies of a configuration, nil if that is nil.
func policiesOf(config *routes.Config) simulate.Policies {
	if config == nil {
		return nil
	}
	return func(name string) (breaker.Policy, bool) {
		r := config.Routes[name]
		if r == nil {
			return breaker.Policy{}, false
		}
		return service.PolicyOf(r), true
	}
}
