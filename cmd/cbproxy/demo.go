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
		Short: "Show what cbproxy does, with five stand-in upstreams that can be broken",
		Long: `Run the proxy with its dashboard in front of five stand-in upstreams, under a little
traffic. Each upstream has a switch: dead, slow, errors, flaky. With --tour a guide
kills, waits and recovers, and tells what happens. Nothing is left behind.`,
		Example: "  cbproxy demo\n  cbproxy demo --tour",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.OutOrStdout()) },
	}
	c.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of the proxy")
	c.Flags().StringVar(&o.admin, "admin", "127.0.0.1:9901", "address of the dashboard and the admin API")
	c.Flags().StringVar(&o.switches, "switches", "127.0.0.1:9902", "address of the upstreams' switches")
	c.Flags().BoolVar(&o.tour, "tour", false, "be led through a failure and its recovery")
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
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	out = audience{out, leave}
	folder, err := os.MkdirTemp("", "cbproxy-demo-")
	if err != nil {
		return failure(err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // a leftover in the temporary folder harms nobody
	upstreams, err := demo.Upstreams()
	if err != nil {
		return failure(err)
	}
	defer demo.Close(upstreams)
	loader, content, config, err := o.load(folder, upstreams)
	if err != nil {
		return err
	}
	logger, err := app.NewLogger(os.Stderr, "text", "error") // changes of state are the dashboard's business
	if err != nil {
		return failure(err)
	}
	app.CaptureStandardLog(logger)
	l, err := net.Listen("tcp", o.switches)
	if err != nil {
		return failure(fmt.Errorf("%w; --switches takes another address", err))
	}
	switches := &http.Server{Handler: demo.Switches(upstreams, "http://"+o.admin+"/"), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = switches.Serve(l) }() // until it is closed
	defer func() { _ = switches.Close() }()
	_, _ = fmt.Fprintf(out, `Dashboard  http://%s/   (its token: %s)
Switches   http://%s/   (or: curl -X POST http://%s/rag_service/dead)
Proxy      http://%s/rag, /rules, /notify, /vms, /predict   (curl -i http://%s/rag/question)

Break an upstream and look at the dashboard. Ctrl-C ends it all.
`, o.admin, config.Admin.Token, o.switches, o.switches, o.listen, o.listen)

	ctx, cancel := context.WithCancel(ctx)
	over, end := make(chan error, 1), make(chan os.Signal, 1)
	go func() {
		over <- o.accompany(ctx, upstreams, out)
		end <- syscall.SIGTERM // for run, which gets no other signal
	}()
	err = runProxy(app.Options{Loader: loader, Content: content, Config: config, Logger: logger, Signals: end})
	cancel()
	if told := <-over; err == nil && !errors.Is(told, context.Canceled) {
		err = told
	}
	if err != nil && errors.Is(err, syscall.EADDRINUSE) {
		err = failure(fmt.Errorf("%w; --listen and --admin take other addresses", err))
	}
	return err
}

// check returns an error unless the addresses are such that others can be told them.
func (o demoOptions) check() error {
	for flag, address := range map[string]string{"listen": o.listen, "admin": o.admin, "switches": o.switches} {
		host, port, err := net.SplitHostPort(address)
		if n, none := strconv.ParseUint(port, 10, 16); err != nil || none != nil || n == 0 || host == "" {
			return fmt.Errorf("--%s: must be HOST:PORT, got %q", flag, address)
		}
	}
	return nil
}

// load writes the configuration to the folder and reads it as run would.
func (o demoOptions) load(folder string, upstreams []*demo.Upstream) (loader routes.Loader, content []byte, config *routes.Config, err error) {
	loader = app.NewLoader(filepath.Join(folder, "config.yaml"))
	// Whatever else is set there is meant for another proxy: its Redis' fleet must not hear of what breaks here.
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

// audience is whom the demo talks to. It calls gone when they are.
type audience struct {
	io.Writer
	gone func()
}

func (a audience) Write(p []byte) (int, error) {
	n, err := a.Writer.Write(p)
	if err != nil {
		a.gone()
	}
	return n, err
}

// accompany makes traffic once the proxy serves, and leads the tour if there is to be one. What goes
// wrong with that ends the demo.
func (o demoOptions) accompany(ctx context.Context, upstreams []*demo.Upstream, out io.Writer) error {
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

// config is a configuration with short times, so that there is something to see.
func (o demoOptions) config(folder string, upstreams []*demo.Upstream) string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "listen: %q\nadmin: {listen: %q}\ndata_dir: %q\nshutdown_timeout: 2s\ndefaults: {timeout: %s, breaker: {recovery_timeout: 10s}}\nroutes:\n",
		o.listen, o.admin, filepath.Join(folder, "data"), demo.Timeout)
	for _, u := range upstreams {
		_, _ = fmt.Fprintf(&b, "  %s: {prefix: %s, upstream: http://%s}\n", u.Service, u.Prefix, u.Address)
	}
	return b.String()
}
