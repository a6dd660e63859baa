package harness

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Proxy is a cbproxy process that can be restarted with the same configuration and store.
type Proxy struct {
	T          testing.TB
	URL        string // URL of the data plane
	AdminURL   string // URL of the admin plane
	DataDir    string // data_dir, the folder of the store
	ConfigFile string // path of the configuration file
	ConfigHead string // first lines of the configuration: listen (the environment variable DATA overrides it), admin, data_dir
	Log        *LogBuffer
	Stdout     io.Writer // receives standard output; nil discards it

	// Flags of the run command and additional environment variables. Changes apply to the next start.
	Flags, Env []string
	// Wrapper is a command, with arguments, that is given the command line of cbproxy and replaces itself by it.
	Wrapper []string

	*Process // the current or last process
}

// Options define how StartProxy starts cbproxy. A zero field selects the default.
type Options struct {
	Config     string   // content of the configuration file without listen, admin and data_dir
	ConfigFile string   // path of the configuration file; default: a new temporary file
	DataDir    string   // data_dir; default: a new temporary folder
	NoDataDir  bool     // leave data_dir empty, so that state is kept in memory; DataDir must be empty
	Flags      []string // flags of the run command; default: --log-format json
	Env        []string // variables added to the environment of the tests
	Wrapper    []string // Proxy.Wrapper
}

// StartProxy starts cbproxy and waits until it is ready. At the end of the test it stops the process, and fails the test
// if the log reports a data race or a panic.
func StartProxy(t testing.TB, o Options) *Proxy {
	t.Helper()
	if o.ConfigFile == "" {
		o.ConfigFile = filepath.Join(t.TempDir(), "config.yaml")
	}
	if o.DataDir == "" && !o.NoDataDir {
		o.DataDir = t.TempDir()
	}
	if o.Flags == nil {
		o.Flags = []string{"--log-format", "json"}
	}
	data, admin := FreeAddress(t), FreeAddress(t)
	p := &Proxy{
		T: t, DataDir: o.DataDir, URL: "http://" + data, AdminURL: "http://" + admin, ConfigFile: o.ConfigFile, Log: new(LogBuffer),
		ConfigHead: fmt.Sprintf("listen: ${DATA:-%s}\nadmin: {listen: %s}\ndata_dir: %q\n", data, admin, o.DataDir),
	}
	p.Wrapper, p.Flags, p.Env = o.Wrapper, o.Flags, append(slices.Clone(o.Env), "CBPROXY_ADMIN_TOKEN="+AdminToken)
	p.WriteConfig(o.Config)
	t.Cleanup(func() {
		p.Stop()
		CheckLog(t, p.URL, p.Log)
	})
	p.Start()
	return p
}

// Start starts the process and waits until it is ready. It uses the configuration and the store of the previous process.
func (p *Proxy) Start() {
	p.T.Helper()
	p.Launch()
	p.AwaitReady()
}

// Launch starts the process and does not wait until it is ready.
func (p *Proxy) Launch() {
	p.T.Helper()
	p.Process = startCommand(p.T, p.Env, p.Stdout, p.Log, slices.Concat(p.Wrapper, []string{Binary(), "run", "--config", p.ConfigFile}, p.Flags))
}

// AwaitReady waits until /readyz responds with 200. It fails the test if the process exits.
func (p *Proxy) AwaitReady() {
	p.T.Helper()
	Eventually(p.T, "the proxy is ready", func() bool {
		select {
		case <-p.Exited:
			p.T.Fatalf("exit status %d:\n%s", p.ExitStatus, p.Log)
		default:
		}
		res, err := http.Get(p.AdminURL + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// WriteConfig overwrites the configuration file in place with ConfigHead and config.
func (p *Proxy) WriteConfig(config string) {
	p.T.Helper()
	if err := os.WriteFile(p.ConfigFile, []byte(p.ConfigHead+config), 0o600); err != nil {
		p.T.Fatal(err)
	}
}

// ReplaceConfig replaces the configuration file with a new one atomically, so that the proxy never reads a partial file.
func (p *Proxy) ReplaceConfig(config string) {
	p.T.Helper()
	replacement := p.ConfigFile + ".new"
	if err := os.WriteFile(replacement, []byte(p.ConfigHead+config), 0o600); err != nil {
		p.T.Fatal(err)
	}
	if err := os.Rename(replacement, p.ConfigFile); err != nil {
		p.T.Fatal(err)
	}
}

// StartFleet starts n proxies with the same options, which must configure Redis, and waits until all are connected to it.
func StartFleet(t testing.TB, n int, o Options) []*Proxy {
	t.Helper()
	fleet := make([]*Proxy, n)
	for i := range fleet {
		fleet[i] = StartProxy(t, o)
	}
	for _, p := range fleet {
		p.AwaitRedis(true)
	}
	return fleet
}

// AwaitState waits until each proxy reports the given breaker state of service svc.
func AwaitState(t testing.TB, fleet []*Proxy, state string) {
	t.Helper()
	for i, p := range fleet {
		Eventually(t, fmt.Sprintf("breaker of proxy %d is %s", i, state), func() bool { return p.BreakerState() == state })
	}
}
