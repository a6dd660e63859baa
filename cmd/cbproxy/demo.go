package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"cbproxy/internal/app"
	"cbproxy/internal/demo"
	"cbproxy/routes"
)

// demoOptions are the flags of `cbproxy demo`.
type demoOptions struct {
	listen, admin, switches string
	tour                    bool
	pause                   time.Duration
}

func newDemoCommand() *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "Demonstrate cbproxy with five simulated upstreams that can be made to fail",
		Long: `Run the proxy with its dashboard in front of five simulated upstreams, under light
traffic. Each upstream has a switch: dead, slow, errors, flaky. With --tour a guided tour
breaks and restores upstreams and explains what happens. All files are removed at the end.`,
		Example: "  cbproxy demo\n  cbproxy demo --tour",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.OutOrStdout()) },
	}
	c.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of the proxy")
	c.Flags().StringVar(&o.admin, "admin", "127.0.0.1:9901", "address of the dashboard and the admin API")
	c.Flags().StringVar(&o.switches, "switches", "127.0.0.1:9902", "address of the upstreams' switches")
	c.Flags().BoolVar(&o.tour, "tour", false, "show a failure and its recovery step by step")
	c.Flags().DurationVar(&o.pause, "pause", 4*time.Second, "how long the tour waits after each paragraph")
	return c
}

func (o demoOptions) run(ctx context.Context, out io.Writer) error {
	if err := o.check(); err != nil {
		return invalid(err)
	}
	// From here on the demo removes its folder when it ends, also after several signals and when the terminal or the pipe is
	// closed.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	app.IgnoreClosedPipes()
	ctx, end := context.WithCancel(ctx)
	defer end()
	out = closingWriter{out, end}
	folder, err := os.MkdirTemp("", "cbproxy-demo-")
	if err != nil {
		return failure(err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // a leftover in the temporary folder does no harm
	upstreams, err := demo.Upstreams()
	if err != nil {
		return failure(err)
	}
	defer demo.Close(upstreams)
	loader, content, config, err := o.load(folder, upstreams)
	if err != nil {
		return err
	}
	logger, err := app.NewLogger(os.Stderr, "text", "error") // the dashboard shows state changes
	if err != nil {
		return failure(err)
	}
	app.CaptureStandardLog(logger)
	l, err := net.Listen("tcp", o.switches)
	if err != nil {
		return failure(fmt.Errorf("%w; use --switches to set another address", err))
	}
	switches := &http.Server{Handler: demo.Switches(upstreams, "http://"+o.admin+"/"), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = switches.Serve(l) }() // until it is closed
	defer func() { _ = switches.Close() }()
	_, _ = fmt.Fprintf(out, `Dashboard  http://%s/   (its token: %s)
Switches   http://%s/   (or: curl -X POST http://%s/rag_service/dead)
Proxy      http://%s/rag, /rules, /notify, /vms, /predict   (curl -i http://%s/rag/question)

Break an upstream and watch the dashboard. Ctrl-C stops everything.
`, o.admin, config.Admin.Token, o.switches, o.switches, o.listen, o.listen)

	ctx, cancel := context.WithCancel(ctx)
	driven, signals := make(chan error, 1), make(chan os.Signal, 1)
	go func() {
		driven <- o.drive(ctx, upstreams, out)
		signals <- syscall.SIGTERM // Run gets no other signal
	}()
	err = runProxy(app.Options{Loader: loader, Content: content, Config: config, Logger: logger, Signals: signals})
	cancel()
	if driveErr := <-driven; err == nil && !errors.Is(driveErr, context.Canceled) {
		err = driveErr
	}
	if err != nil && errors.Is(err, syscall.EADDRINUSE) {
		err = failure(fmt.Errorf("%w; use --listen and --admin to set other addresses", err))
	}
	return err
}

// check returns an error unless each address has a host and a fixed port, as the addresses are printed.
func (o demoOptions) check() error {
	for flag, address := range map[string]string{"listen": o.listen, "admin": o.admin, "switches": o.switches} {
		host, port, err := net.SplitHostPort(address)
		if n, parseErr := strconv.ParseUint(port, 10, 16); err != nil || parseErr != nil || n == 0 || host == "" {
			return fmt.Errorf("--%s: must be HOST:PORT, got %q", flag, address)
		}
	}
	return nil
}

// load writes the configuration to the folder and reads it as the run command does.
func (o demoOptions) load(folder string, upstreams []*demo.Upstream) (loader routes.Loader, content []byte, config *routes.Config, err error) {
	loader = app.NewLoader(filepath.Join(folder, "config.yaml"))
	// All other variables are meant for another proxy, and its Redis must not get the state of these breakers.
	loader.Environ = slices.DeleteFunc(loader.Environ, func(v string) bool {
		name, value, _ := strings.Cut(v, "=")
		return name != routes.TokenVariable || value == ""
	})
	if len(loader.Environ) == 0 {
		loader.Environ = []string{routes.TokenVariable + "=" + rand.Text()}
	}
	err = os.WriteFile(loader.Path, []byte(o.config(folder, upstreams)), 0o600)
	if err == nil {
		content, err = loader.Read()
	}
	if err != nil {
		return loader, nil, nil, failure(err)
	}
	if config, err = loader.Parse(content); err != nil {
		return loader, nil, nil, invalid(err)
	}
	return loader, content, config, nil
}

// closingWriter calls failed when a write fails.
type closingWriter struct {
	io.Writer
	failed func()
}

func (w closingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.failed()
	}
	return n, err
}

// drive waits until the proxy is ready, then sends traffic until ctx is done, and runs the tour if o.tour is set. It returns
// early if the tour fails.
func (o demoOptions) drive(ctx context.Context, upstreams []*demo.Upstream, out io.Writer) error {
	for checkReady(ctx, "http://"+o.admin) != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	guide := demo.Guide{Upstreams: upstreams, Data: "http://" + o.listen, Admin: "http://" + o.admin, Out: out, Pause: o.pause}
	var traffic sync.WaitGroup
	traffic.Go(func() { demo.Traffic(ctx, guide.Data, upstreams) })
	defer traffic.Wait()
	if o.tour {
		if err := guide.Tour(ctx); err != nil && ctx.Err() == nil {
			return failure(fmt.Errorf("the tour ended early: %w", err))
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// config returns a configuration with short timeouts, so that effects show quickly.
func (o demoOptions) config(folder string, upstreams []*demo.Upstream) string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "listen: %q\nadmin: {listen: %q}\ndata_dir: %q\nshutdown_timeout: 2s\ndefaults: {timeout: %s, breaker: {recovery_timeout: 10s}}\nroutes:\n",
		o.listen, o.admin, filepath.Join(folder, "data"), demo.Timeout)
	for _, u := range upstreams {
		_, _ = fmt.Fprintf(&b, "  %s: {prefix: %s, upstream: http://%s}\n", u.Service, u.Prefix, u.Address)
	}
	return b.String()
}
