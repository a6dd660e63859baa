package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"cbproxy/fallbacks"
	"cbproxy/internal/store"
	"cbproxy/routes"
)

const defaultConfigFile = "config.yaml"

// newLoader returns the one loader that every command reads configurations with.
func newLoader(path string) routes.Loader {
	return routes.Loader{
		Path:       path,
		Builtin:    fallbacks.Builtin(),
		Strategies: fallbacks.Options(),
		RedisURL:   store.ValidateRedisURL,
		Environ:    os.Environ(),
	}
}

func newCheckCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:     "check",
		Short:   "Validate a configuration file and print all of its faults",
		Long:    "Validate a configuration file, with the environment's overrides, and print one line a fault.",
		Example: "  cbproxy check --config config.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := newLoader(path).Load()
			var faults routes.Faults
			if errors.As(err, &faults) {
				fmt.Fprintln(c.OutOrStdout(), faults.Error())
				return invalid(errors.New(""))
			} else if err != nil {
				return invalid(err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: valid, %d routes\n", path, len(config.Routes))
			return err
		},
	}
	c.Flags().StringVarP(&path, "config", "c", defaultConfigFile, "configuration file")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // fails for unknown flags only
	return c
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
