// Command caddy is a minimal Caddy for the benchmark: the HTTP app and the reverse_proxy handler, without the command line
// of the full distribution.
//
// It is a separate module, so that building cbproxy does not download Caddy.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp"              // the HTTP app
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy" // the handler and its HTTP transport
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: caddy CONFIG.json")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "caddy:", err)
		os.Exit(1)
	}
}

// run serves the configuration in file until SIGINT or SIGTERM.
func run(file string) error {
	config, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("load %s: %w", file, err)
	}
	<-stop
	return caddy.Stop()
}
