package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// proxyProcess is a running cbproxy.
type proxyProcess struct {
	t      testing.TB
	data   string // URL of the data plane
	admin  string
	folder string // holds the store
	file   string // path of the configuration
	head   string // the configuration's first lines, with the addresses and the folder
	log    *logBuffer
	out    io.Writer // receives standard output; nil discards it

	flags, environment []string

	*process // the current or last process
}

// options define how startProxy starts cbproxy. The zero value of a field means its default.
type options struct {
	config     string   // content of the configuration file, without listen addresses and data_dir
	configFile string   // path of the configuration file; default: a file of its own
	dataDir    string   // data_dir; default: a folder of its own
	noDataDir  bool     // data_dir is empty: state is kept in memory
	flags      []string // of the run command; default: JSON logs
	env        []string // added to the environment
}

// startProxy starts cbproxy and waits until it is ready. It stops the process at the end of the test, and fails the
// test if the log reports a data race or a panic.
func startProxy(t testing.TB, o options) *proxyProcess {
	t.Helper()
	if o.configFile == "" {
		o.configFile = filepath.Join(t.TempDir(), "config.yaml")
	}
	if o.dataDir == "" && !o.noDataDir {
		o.dataDir = t.TempDir()
	}
	if o.flags == nil {
		o.flags = []string{"--log-format", "json"}
	}
	data, admin := freeAddress(t), freeAddress(t)
	p := &proxyProcess{
		t: t, folder: o.dataDir, data: "http://" + data, admin: "http://" + admin, file: o.configFile, log: new(logBuffer),
		head: fmt.Sprintf("listen: ${DATA:-%s}\nadmin: {listen: %s}\ndata_dir: %q\n", data, admin, o.dataDir),
	}
	p.flags, p.environment = o.flags, append(slices.Clone(o.env), "CBPROXY_ADMIN_TOKEN="+adminToken)
	p.write(o.config)
	t.Cleanup(func() {
		p.end()
		reviewLog(t, p.data, p.log)
	})
	p.start()
	return p
}

// start starts the process and waits until it is ready. It keeps the configuration and the store of the
// previous process.
func (p *proxyProcess) start() {
	p.t.Helper()
	p.launch()
	p.awaitReady()
}

// launch starts the process without waiting until it is ready.
func (p *proxyProcess) launch() {
	p.t.Helper()
	p.process = startProcess(p.t, p.environment, p.out, p.log, append([]string{"run", "--config", p.file}, p.flags...)...)
}

func (p *proxyProcess) awaitReady() {
	p.t.Helper()
	eventually(p.t, "the proxy is ready", func() bool {
		select {
		case <-p.exited:
			p.t.Fatalf("exit status %d:\n%s", p.status, p.log)
		default:
		}
		res, err := http.Get(p.admin + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// write replaces the configuration's content in place.
func (p *proxyProcess) write(config string) {
	p.t.Helper()
	if err := os.WriteFile(p.file, []byte(p.head+config), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// replace renames a new file over the configuration, so that a reader never sees a partial file.
func (p *proxyProcess) replace(config string) {
	p.t.Helper()
	whole := p.file + ".new"
	if err := os.WriteFile(whole, []byte(p.head+config), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(whole, p.file); err != nil {
		p.t.Fatal(err)
	}
}
