package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"cbproxy/internal/app"
	"cbproxy/routes"
)

const defaultConfigFile = "config.yaml"

func newCheckCommand() *cobra.Command {
	var path string
	var diff bool
	c := &cobra.Command{
		Use:   "check [--config FILE | --diff OLD NEW]",
		Short: "Validate a configuration file, or describe what an edit changes",
		Long: `Validate a configuration file, with overrides from the environment, and print one line per fault.
With --diff, validate two files and describe what changes when a proxy that runs with the first
reloads the second: defaults and overrides are applied, secrets are left out.
Notes about what may be unexpected are written to standard error.`,
		Example: "  cbproxy check --config config.yaml\n  cbproxy check --diff config.yaml edited.yaml",
		Args: func(c *cobra.Command, args []string) error {
			if diff {
				return cobra.ExactArgs(2)(c, args)
			}
			return cobra.NoArgs(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if diff {
				return printDiff(c.OutOrStdout(), args[0], args[1])
			}
			config, err := loadChecked(c.OutOrStdout(), path)
			if err != nil {
				return err
			}
			for _, note := range config.Notes() {
				_, _ = fmt.Fprintf(c.ErrOrStderr(), "note: %s\n", note)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: valid, %s\n", path, plural(len(config.Routes), "route"))
			return err
		},
	}
	c.Flags().StringVarP(&path, "config", "c", defaultConfigFile, "configuration file")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // fails for unknown flags only
	c.Flags().BoolVar(&diff, "diff", false, "compare two files instead: OLD NEW")
	c.MarkFlagsMutuallyExclusive("config", "diff")
	return c
}

// loadChecked loads a configuration file. If the file is invalid, it writes all faults to w and returns an error without text.
func loadChecked(w io.Writer, path string) (*routes.Config, error) {
	config, err := app.NewLoader(path).Load()
	var faults routes.Faults
	if errors.As(err, &faults) {
		_, _ = fmt.Fprintln(w, faults.Error())
		return nil, invalid(errors.New(""))
	}
	if err != nil {
		return nil, invalid(err)
	}
	return config, nil
}

func newSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON Schema of the configuration file",
		Example: "  cbproxy schema > config.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(routes.Schema())
			return err
		},
	}
}
