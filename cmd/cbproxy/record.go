package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cbproxy/internal/simulate"
	"cbproxy/routes"
)

// recordFlags are the flags of commands that use recorded calls.
type recordFlags struct {
	config, service string
	since           time.Duration
	scenario        simulate.Scenario
}

// add defines the flags, and that arguments are files.
func (f *recordFlags) add(c *cobra.Command, proxy *adminFlags) {
	flags := c.Flags()
	flags.StringVarP(&f.config, "config", "c", defaultConfigFile, "configuration file")
	flags.StringVar(&f.service, "service", "", "only calls of this service")
	flags.DurationVar(&f.since, "since", 24*time.Hour, "age of the oldest calls to ask the running proxy for")
	flags.StringVar(&f.scenario.Name, "scenario", "", "make calls up instead: "+strings.Join(simulate.Scenarios(), ", "))
	flags.Float64Var(&f.scenario.Rate, "rate", 10, "mean number of calls per second of a scenario, for each service")
	flags.Float64Var(&f.scenario.Minutes, "minutes", 10, "duration of a scenario")
	flags.Uint64Var(&f.scenario.Seed, "seed", 1, "number that determines the random calls of a scenario")
	// These fail for unknown flags only.
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	_ = c.RegisterFlagCompletionFunc("scenario", cobra.FixedCompletions(simulate.Scenarios(), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("service", func(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return proxy.completeService(c, nil, word)
	})
	c.ValidArgsFunction = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
}

// noteSkipped tells which services of a record the configuration does not have.
func (f *recordFlags) noteSkipped(w io.Writer, services []string) {
	slices.Sort(services)
	for _, name := range services {
		_, _ = fmt.Fprintf(w, "note: %s has no service %s, whose calls are left out\n", f.config, clean(name))
	}
}

// resolveRoute returns the full name of a service of a configuration; name may lack the suffix _service.
func resolveRoute(name string, config *routes.Config) (string, error) {
	full, err := resolve(name, config.Routes)
	if err != nil {
		return "", invalid(err)
	}
	return full, nil
}

// read returns the recorded calls: of the scenario, in the files, or of the running proxy.
func (f *recordFlags) read(c *cobra.Command, client *client, config *routes.Config, files []string) (record simulate.Record, err error) {
	if f.service != "" {
		if f.service, err = resolveRoute(f.service, config); err != nil {
			return nil, err
		}
	}
	if f.scenario.Name != "" {
		if len(files) > 0 {
			return nil, invalid(errors.New("--scenario: cannot be combined with recorded calls"))
		}
		if err := f.scenario.Validate(); err != nil {
			return nil, invalid(err)
		}
		record := simulate.Record{}
		for name := range config.Routes {
			if f.service == "" || name == f.service {
				record[name] = f.scenario.Calls(scenarioBegin)
			}
		}
		return record, nil
	}
	progress := newProgress(c.ErrOrStderr())
	defer progress.clear()
	r := simulate.NewReader(f.service, func(err error) {
		progress.clear()
		_, _ = fmt.Fprintln(c.ErrOrStderr(), clean(err.Error()))
	})
	r.Progress = func(lines int) { progress.show("%d lines read", lines) }
	if len(files) == 0 {
		return f.readProxy(c.Context(), r, client)
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
func (f *recordFlags) readProxy(ctx context.Context, r *simulate.Reader, client *client) (simulate.Record, error) {
	if f.since <= 0 {
		return nil, invalid(fmt.Errorf("--since: must be positive, got %v", f.since))
	}
	query := url.Values{"since": {f.since.String()}}
	if f.service != "" {
		query.Set("service", f.service)
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
