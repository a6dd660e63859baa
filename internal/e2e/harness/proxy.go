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

// Proxy is a running cbproxy.
type Proxy struct {
	T          testing.TB
	URL        string // URL of the data plane
	AdminURL   string
	DataDir    string // holds the store
	ConfigFile string // path of the configuration
	ConfigHead string // the configuration's first lines, with the addresses and the folder
	Log        *LogBuffer
	Stdout     io.Writer // receives standard output; nil discards it

	Flags, Env []string

	*Process // the current or last process
}

// Options define how StartProxy starts cbproxy. The zero value of a field means its default.
type Options struct {
	Config     string   // content of the configuration file, without listen addresses and data_dir
	ConfigFile string   // path of the configuration file; default: a file of its own
	DataDir    string   // data_dir; default: a folder of its own
	NoDataDir  bool     // data_dir is empty: state is kept in memory
	Flags      []string // of the run command; default: JSON logs
	Env        []string // added to the environment
}

// StartProxy starts cbproxy and waits until it is ready. It stops the process at the end of the test, and fails the
// test if the log reports a data race or a panic.
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
	p.Flags, p.Env = o.Flags, append(slices.Clone(o.Env), "CBPROXY_ADMIN_TOKEN="+AdminToken)
	p.WriteConfig(o.Config)
	t.Cleanup(func() {
		p.Stop()
		CheckLog(t, p.URL, p.Log)
	})
	p.Start()
	return p
}

// Start starts the process and waits until it is ready. It keeps the configuration and the store of the
// previous process.
func (p *Proxy) Start() {
	p.T.Helper()
	p.Launch()
	p.AwaitReady()
}

// Launch starts the process without waiting until it is ready.
func (p *Proxy) Launch() {
	p.T.Helper()
	p.Process = StartProcess(p.T, p.Env, p.Stdout, p.Log, append([]string{"run", "--config", p.ConfigFile}, p.Flags...)...)
}

// AwaitReady waits until the proxy reports that it is ready. It fails the test if the process exits.
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

// WriteConfig replaces the configuration's content in place.
func (p *Proxy) WriteConfig(config string) {
	p.T.Helper()
	if err := os.WriteFile(p.ConfigFile, []byte(p.ConfigHead+config), 0o600); err != nil {
		p.T.Fatal(err)
	}
}

// ReplaceConfig renames a new file over the configuration, so that a reader never sees a partial file.
func (p *Proxy) ReplaceConfig(config string) {
	p.T.Helper()
	whole := p.ConfigFile + ".new"
	if err := os.WriteFile(whole, []byte(p.ConfigHead+config), 0o600); err != nil {
		p.T.Fatal(err)
	}
	if err := os.Rename(whole, p.ConfigFile); err != nil {
		p.T.Fatal(err)
	}
}
