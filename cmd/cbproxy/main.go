// Command cbproxy is a circuit-breaking sidecar proxy.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"cbproxy/internal/app"
	"cbproxy/internal/listen"
)

// Exit statuses.
const (
	exitFailure = 1 // a failure at run time
	exitUsage   = 2 // the command line or the configuration is invalid
)

// exitError is an error with the exit status of the process.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// failure returns err with the exit status of a failure at run time.
func failure(err error) error { return &exitError{exitFailure, err} }

// invalid returns err with the exit status of an invalid command line or configuration.
func invalid(err error) error { return &exitError{exitUsage, err} }

func main() {
	os.Exit(execute(newRootCommand()))
}

// execute runs a command and returns its exit status.
func execute(root *cobra.Command) int {
	command, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if text := exit.Error(); text != "" {
			fmt.Fprintln(os.Stderr, text)
		}
		return exit.status
	}
	fmt.Fprintf(os.Stderr, "cbproxy: %v\n%s\n", err, helpHint(command.CommandPath()))
	return exitUsage
}

// helpHint names the command that prints the help of the command with the given path.
func helpHint(path string) string { return fmt.Sprintf("See '%s --help'.", path) }

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "cbproxy",
		Short: "A circuit-breaking sidecar proxy with fallbacks",
		Long: `cbproxy forwards a caller's requests to the services it calls. Each service has a
circuit breaker: while its upstream fails, cbproxy responds at once with a fallback.`,
		Example:       "  cbproxy run --config config.yaml",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(newRunCommand(), newDemoCommand(), newCheckCommand(), newHealthcheckCommand(), newSchemaCommand(), newVersionCommand())
	root.AddCommand(newStatusCommand(), newForceCommand(), newFaultCommand(), newOverrideCommand(), newQueueCommand(), newSimulateCommand(), newTuneCommand())
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp) // flags that name a file override this
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	rejectUnknownArguments(root)
	markRuntimeErrors(root)
	return root
}

// rejectUnknownArguments makes cobra's own commands report an argument that they don't know as a usage error. Without it they
// print a help text, with exit status 0.
func rejectUnknownArguments(root *cobra.Command) {
	for _, c := range root.Commands() {
		switch c.Name() {
		case "completion":
			c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() } // its Args allow no argument
		case "help":
			c.Run = nil
			c.RunE = func(c *cobra.Command, args []string) error {
				command, unknown, err := root.Find(args)
				if err != nil {
					return invalid(err)
				}
				if len(unknown) > 0 {
					path := command.CommandPath()
					return invalid(fmt.Errorf("cbproxy: unknown command %q for %q\n%s", unknown[0], path, helpHint(path)))
				}
				command.InitDefaultHelpFlag()
				return command.Help()
			}
		}
	}
}

// markRuntimeErrors makes each error of a command and its subcommands that is not an exitError a failure. Errors
// before a command runs are usage errors.
func markRuntimeErrors(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			err := run(c, args)
			if exit := (*exitError)(nil); err == nil || errors.As(err, &exit) {
				return err
			}
			return failure(err)
		}
	}
	for _, subcommand := range c.Commands() {
		markRuntimeErrors(subcommand)
	}
}

func newRunCommand() *cobra.Command {
	var path, format, level string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the proxy",
		Long: `Run the proxy until SIGTERM or SIGINT, then let requests in flight finish within
shutdown_timeout; a second signal exits at once. The configuration file is watched:
a valid edit takes effect within a second. SIGHUP reloads it. Traces and metrics are
exported as OpenTelemetry's environment variables (OTEL_*) configure.`,
		Example: "  cbproxy run --config config.yaml --log-format json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			app.IgnoreClosedPipes()
			logger, err := app.NewLogger(os.Stderr, format, level)
			if err != nil {
				return invalid(err)
			}
			app.CaptureStandardLog(logger)
			sockets, err := passedSockets(logger)
			if err != nil {
				return invalid(err)
			}
			loader := app.NewLoader(path)
			content, err := loader.Read()
			if err != nil {
				return invalid(err)
			}
			config, err := loader.Parse(content)
			if err != nil {
				return invalid(err)
			}
			app.TuneGC(logger)
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer signal.Stop(signals)
			return runProxy(app.Options{Loader: loader, Content: content, Config: config, Logger: logger, Signals: signals, Sockets: sockets})
		},
	}
	c.Flags().StringVarP(&path, "config", "c", defaultConfigFile, "configuration file")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // fails for unknown flags only
	c.Flags().StringVar(&format, "log-format", "text", "format of log lines: text or json")
	c.Flags().StringVar(&level, "log-level", "info", "lowest level of log lines: debug, info, warn or error")
	for flag, values := range map[string][]string{"log-format": {"text", "json"}, "log-level": {"debug", "info", "warn", "error"}} {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return c
}

// passedSockets returns the sockets that a service manager has passed, and logs how one of another name is used.
func passedSockets(logger *slog.Logger) (listen.Sockets, error) {
	sockets, err := listen.Passed()
	if err == nil && sockets.Unnamed != "" {
		logger.Warn("the only socket of LISTEN_FDS is used for listen; set FileDescriptorName=listen in its socket unit", "name", sockets.Unnamed)
	}
	return sockets, err
}

// runProxy runs the proxy of this build and returns an error with its exit status.
func runProxy(o app.Options) error {
	o.Version, o.Commit = version, buildCommit()
	err := app.Run(o)
	if err == nil {
		return nil
	}
	if environment := (*app.TelemetryConfigError)(nil); errors.As(err, &environment) {
		return invalid(err)
	}
	return failure(err)
}
