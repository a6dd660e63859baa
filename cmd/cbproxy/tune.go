package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cbproxy/internal/app"
	"cbproxy/internal/breaker"
	"cbproxy/internal/configdiff"
	"cbproxy/internal/service"
	"cbproxy/internal/simulate"
	"cbproxy/internal/tune"
	"cbproxy/routes"
)

// tuneCommand has the flags of the command tune.
type tuneCommand struct {
	adminFlags
	recordFlags
	cost tune.Cost
}

func newTuneCommand() *cobra.Command {
	t := &tuneCommand{cost: tune.Cost{Passed: 1, Refused: 1}}
	c := &cobra.Command{
		Use:   "tune [OUTCOMES... | -]",
		Short: "Search thresholds that would have cost less on recorded calls",
		Long: `Search breaker settings with which recorded calls would have cost less than with those of a
configuration file: fail_max, the ratios, their window, min_requests, recovery_timeout, recovery_backoff
and the algorithms. Settings are searched on the earlier part of the record. The best three are judged on
the later part, beside those of the file, and shown as check --diff shows them. Nothing is written.

The cost is the number of failures that reach callers times passed, and the number of refused calls that
had succeeded times refused. If a fallback is almost as good as an answer, make refused smaller than
passed.

OUTCOMES are as for simulate: files with the lines of GET /api/v1/outcomes, or of the access log in JSON;
- is standard input. Without them the running proxy is asked. The same input always has the same result.`,
		Example: `  cbproxy tune
  cbproxy tune --service rag_service --cost passed=5,refused=1
  cbproxy tune --config config.yaml -o json outcomes.ndjson`,
		RunE: func(c *cobra.Command, args []string) error { return t.run(c, args) },
	}
	t.adminFlags.add(c)
	t.recordFlags.add(c, &t.adminFlags)
	c.Flags().Var(&t.cost, "cost", "cost of a failure that reaches a caller, and of refusing a good call")
	return c
}

func (t *tuneCommand) run(c *cobra.Command, args []string) error {
	client, err := t.client() // checks the flags
	if err != nil {
		return err
	}
	config, err := loadChecked(c.ErrOrStderr(), t.config)
	if err != nil {
		return err
	}
	record, err := t.read(c, client, config, args)
	if err != nil {
		return err
	}
	report, err := t.search(c.ErrOrStderr(), config, record)
	if err != nil {
		return failure(err)
	}
	if client.json {
		return printValue(c.OutOrStdout(), report)
	}
	if len(report.Services) == 0 {
		_, err := fmt.Fprintln(c.OutOrStdout(), "There are no calls to search by.")
		return err
	}
	return t.writeText(c.OutOrStdout(), config, report)
}

// search searches settings for each service with calls. A service without a breaker in use is left out.
func (t *tuneCommand) search(w io.Writer, config *routes.Config, record simulate.Record) (*tune.Report, error) {
	report := &tune.Report{Services: map[string]*tune.ServiceReport{}}
	progress := newProgress(w)
	defer progress.clear()
	var skipped []string
	for _, name := range slices.Sorted(maps.Keys(record)) {
		route := config.Routes[name]
		switch {
		case route == nil:
			skipped = append(skipped, name)
			continue
		case len(record[name]) == 0:
			continue
		case route.Breaker.Mode == "off":
			progress.clear()
			_, _ = fmt.Fprintf(w, "note: %s has breaker.mode off and is left out\n", name)
			continue
		}
		found, err := tune.Search(name, record[name], t.options(config, name, progress))
		if err != nil {
			return nil, err
		}
		report.Services[name] = found
	}
	progress.clear()
	t.noteSkipped(w, skipped)
	return report, nil
}

// options returns what the search for a service of a configuration needs.
func (t *tuneCommand) options(config *routes.Config, name string, progress *progress) tune.Options {
	loader := app.NewLoader(t.config)
	o := tune.Options{
		Cost: t.cost, Algorithm: config.Routes[name].Breaker.Algorithm,
		Common: tune.DimensionsOf(routes.Breaker{}, ""), Algorithms: map[string][]tune.Dimension{},
		Policy: func(keys []byte) (breaker.Policy, error) {
			changed, err := loader.WithBreaker(config, name, keys)
			if err != nil {
				return breaker.Policy{}, err
			}
			return service.PolicyOf(changed.Routes[name]), nil
		},
		Progress: func(done, limit int) { progress.show("%s: %d of at most %d settings tried", clean(name), done, limit) },
	}
	for algorithm, options := range loader.Algorithms {
		o.Algorithms[algorithm] = nil
		if options != nil {
			o.Algorithms[algorithm] = tune.DimensionsOf(options(), algorithm+".")
		}
	}
	return o
}

// writeText writes what has been found: a table for each service, and the changes of each candidate.
func (t *tuneCommand) writeText(w io.Writer, config *routes.Config, report *tune.Report) error {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(report.Services)) {
		s := report.Services[name]
		if err := t.writeService(&b, config, name, s); err != nil {
			return failure(err)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "The cost is %v for each failure that reaches a caller, and %v for each good call that is refused.\n", t.cost.Passed, t.cost.Refused)
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *tuneCommand) writeService(b *strings.Builder, config *routes.Config, name string, s *tune.ServiceReport) error {
	until := func(p tune.Part) string { return p.Until.Format(time.DateTime) }
	if s.Fitted == nil {
		fmt.Fprintf(b, "%s: %d calls, %d failed, until %s UTC\n", clean(name), s.Judged.Calls, s.Judged.Failures, until(s.Judged))
	} else {
		fmt.Fprintf(b, "%s: searched on %d calls until %s UTC, %d failed; judged on %d calls from then until %s, %d failed\n",
			clean(name), s.Fitted.Calls, until(*s.Fitted), s.Fitted.Failures, s.Judged.Calls, until(s.Judged), s.Judged.Failures)
	}
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\tCOST\t%s\n", simulate.Columns)
	row := func(name string, j tune.Judgement) { fmt.Fprintf(table, "%s\t%.6g\t%s\n", name, j.Cost, j.Row()) }
	row(t.config, s.Current)
	for i, c := range s.Candidates {
		row(fmt.Sprintf("setting %d", i+1), c.Judgement)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(b, t.verdict(s))
	if unknown := s.Unknown(); unknown > 0 {
		fmt.Fprintf(b, "Calls that were not made then, and would be with one of these: up to %d. They cost nothing, as it is unknown how they would have ended.\n", unknown)
	}
	loader := app.NewLoader(t.config)
	for i, c := range s.Candidates {
		changed, err := loader.WithBreaker(config, name, c.Breaker)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "\nsetting %d\n", i+1)
		for _, change := range configdiff.Compare(config, changed) {
			if err := change.WriteText(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// verdict says in a sentence whether there is something better.
func (t *tuneCommand) verdict(s *tune.ServiceReport) string {
	switch {
	case s.Fitted == nil:
		return "There are too few failures to search by: at least 10 are needed."
	case len(s.Candidates) == 0:
		return fmt.Sprintf("Nothing better than %s was found.", t.config)
	case !s.ClearlyBetter:
		return fmt.Sprintf("Nothing is clearly better than %s.", t.config)
	}
	return fmt.Sprintf("Setting 1 is clearly better than %s: it costs %.0f %% less.", t.config, 100*(1-s.Candidates[0].Cost/s.Current.Cost))
}
