// Command cbproxy is a circuit-breaking sidecar proxy.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// Exit statuses.
const (
	exitFailure = 1 // something went wrong at run time
	exitUsage   = 2 // the command line or the configuration is wrong
)

// exitError is an error with the exit status that it deserves.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func failure(err error) error { return &exitError{exitFailure, err} }
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
	fmt.Fprintf(os.Stderr, "cbproxy: %v\nSee '%s --help'.\n", err, command.CommandPath())
	return exitUsage
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "cbproxy",
		Short: "A sidecar proxy that keeps its caller going when an upstream dies",
		Long: `cbproxy stands between a caller and the services it calls. Each service has a
circuit breaker: while its upstream is dead, cbproxy answers at once with a fallback.`,
		Example:       "  cbproxy run --config config.yaml",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(newRunCommand(), newDemoCommand(), newCheckCommand(), newHealthcheckCommand(), newSchemaCommand(), newVersionCommand())
	root.AddCommand(newStatusCommand(), newForceCommand(), newQueueCommand())
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp) // but for flags that name one
	root.InitDefaultCompletionCmd()
	atRunTime(root)
	return root
}

// atRunTime makes errors of a command and of those below it failures, unless they say what they are.
// Those that come before a command runs are of usage.
func atRunTime(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			err := run(c, args)
			if exit := (*exitError)(nil); err == nil || errors.As(err, &exit) {
				return err
			}
			return failure(err)
		}
	}
	for _, below := range c.Commands() {
		atRunTime(below)
	}
}
