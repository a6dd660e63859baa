package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

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
	config, against, service, html string
	since                          time.Duration
	scenario                       simulate.Scenario
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
	s.add(c)
	flags := c.Flags()
	flags.StringVarP(&s.config, "config", "c", defaultConfigFile, "configuration file")
	flags.StringVar(&s.against, "against", "", "second configuration file to compare with")
	flags.StringVar(&s.service, "service", "", "only calls of this service")
	flags.StringVar(&s.html, "html", "", "file to write a page with charts to, instead of the table")
	flags.DurationVar(&s.since, "since", 24*time.Hour, "age of the oldest calls to ask the running proxy for")
	flags.StringVar(&s.scenario.Name, "scenario", "", "make calls up instead: "+strings.Join(simulate.Scenarios(), ", "))
	flags.Float64Var(&s.scenario.Rate, "rate", 10, "mean number of calls per second of a scenario, for each service")
	flags.Float64Var(&s.scenario.Minutes, "minutes", 10, "duration of a scenario")
	flags.Uint64Var(&s.scenario.Seed, "seed", 1, "number that determines the random calls of a scenario")
	// These fail for unknown flags only.
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	_ = c.MarkFlagFilename("against", "yaml", "yml")
	_ = c.MarkFlagFilename("html", "html")
	_ = c.RegisterFlagCompletionFunc("scenario", cobra.FixedCompletions(simulate.Scenarios(), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("service", func(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return s.completeService(c, nil, word)
	})
	c.ValidArgsFunction = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
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
	if s.service != "" {
		if s.service, err = resolveRoute(s.service, config); err != nil {
			return err
		}
	}
	record, err := s.record(c, client, config, args)
	if err != nil {
		return err
	}
	report, skipped := simulate.Compare(record, policiesOf(config), policiesOf(against))
	for _, name := range skipped {
		_, _ = fmt.Fprintf(c.ErrOrStderr(), "note: %s has no service %s, whose calls are left out\n", s.config, clean(name))
	}
	if s.html != "" {
		return s.writePage(c.OutOrStdout(), report, record)
	}
	if client.json {
		content, err := json.Marshal(report)
		if err != nil {
			return failure(fmt.Errorf("encode the result: %w", err))
		}
		return printJSON(c.OutOrStdout(), content)
	}
	if len(report.Services) == 0 {
		_, err := fmt.Fprintln(c.OutOrStdout(), "There are no calls in the record.")
		return err
	}
	o := simulate.TextOptions{Config: s.config, Against: s.against, Timeline: timelineWidth(c.OutOrStdout(), len(s.config), len(s.against))}
	if err := report.WriteText(c.OutOrStdout(), o, clean); err != nil || o.Timeline == 0 {
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

// resolveRoute returns the full name of a service of a configuration; name may lack the suffix _service.
func resolveRoute(name string, config *routes.Config) (string, error) {
	full, err := resolve(name, config.Routes)
	if err != nil {
		return "", invalid(err)
	}
	return full, nil
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

// record returns the calls to simulate: of the scenario, in the files, or of the running proxy.
func (s *simulateCommand) record(c *cobra.Command, client *client, config *routes.Config, files []string) (simulate.Record, error) {
	if s.scenario.Name != "" {
		if len(files) > 0 {
			return nil, invalid(errors.New("--scenario: cannot be combined with recorded calls"))
		}
		if err := s.scenario.Validate(); err != nil {
			return nil, invalid(err)
		}
		record := simulate.Record{}
		for name := range config.Routes {
			if s.service == "" || name == s.service {
				record[name] = s.scenario.Calls(scenarioBegin)
			}
		}
		return record, nil
	}
	progress := newProgress(c.ErrOrStderr())
	defer progress.clear()
	r := simulate.NewReader(s.service, func(err error) {
		progress.clear()
		_, _ = fmt.Fprintln(c.ErrOrStderr(), clean(err.Error()))
	})
	r.Progress = func(lines int) { progress.show("%d lines read", lines) }
	if len(files) == 0 {
		return s.readProxy(c.Context(), r, client)
	}
	for _, name := range files {
		if err := readFile(r, name, c.InOrStdin()); err != nil {
			return nil, invalid(err)
		}
	}
	return doneReading(r)
}

// scenarioBegin is when scenarios begin: always at the same time, so that their output is the same.
var scenarioBegin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// readFile reads a file of recorded calls; - is standard input.
func readFile(r *simulate.Reader, name string, stdin io.Reader) error {
	if name == "-" {
		return r.Read("standard input", stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.Read(name, f)
}

// doneReading returns what has been read.
func doneReading(r *simulate.Reader) (simulate.Record, error) {
	record, err := r.Done()
	if err != nil {
		return nil, invalid(err)
	}
	return record, nil
}

// readProxy reads the record of the running proxy.
func (s *simulateCommand) readProxy(ctx context.Context, r *simulate.Reader, client *client) (simulate.Record, error) {
	if s.since <= 0 {
		return nil, invalid(fmt.Errorf("--since: must be positive, got %v", s.since))
	}
	query := url.Values{"since": {s.since.String()}}
	if s.service != "" {
		query.Set("service", s.service)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(client.timeout, func() { cancel(context.DeadlineExceeded) })
	defer silence.Stop()
	res, err := client.send(ctx, http.MethodGet, "outcomes?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body := &watchedReader{res.Body, func() { silence.Reset(client.timeout) }}
	if err := r.Read(client.address, body); err != nil {
		return nil, client.truncated(err)
	}
	return doneReading(r)
}

// progress shows on a terminal how far a long command is, in a line that is overwritten.
type progress struct {
	w     io.Writer // nil: not a terminal
	last  time.Time // when something was shown last; at first, when the command began
	shown bool
}

func newProgress(w io.Writer) *progress {
	p := &progress{last: time.Now()}
	if isTerminal(w) {
		p.w = w
	}
	return p
}

// show shows a text, at most four times a second.
func (p *progress) show(format string, values ...any) {
	if p.w == nil || time.Since(p.last) < 250*time.Millisecond {
		return
	}
	p.last, p.shown = time.Now(), true
	_, _ = fmt.Fprintf(p.w, "\r"+format+"\x1b[K", values...)
}

// clear removes what is shown.
func (p *progress) clear() {
	if p.shown {
		p.shown = false
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// watchedReader calls read for each read.
type watchedReader struct {
	io.Reader
	read func()
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.read()
	return n, err
}
