package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const adminToken = "e2e-secret"

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

// response is a response whose body has been read.
type response struct {
	status int
	header http.Header
	body   string
}

func read(t testing.TB, res *http.Response, err error) response {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{res.StatusCode, res.Header, string(body)}
}

func (p *proxyProcess) get(path string) response {
	p.t.Helper()
	res, err := http.Get(p.data + path)
	return read(p.t, res, err)
}

// state returns the breaker state that the response reports.
func (r response) state() string { return r.header.Get("X-Circuit-Breaker-State") }

// health holds the fields of the health response that the tests use.
type health struct {
	Status   string
	Total    int `json:"total_services"`
	Instance string
	Config   struct {
		LastError       *string  `json:"last_error"`
		RestartRequired []string `json:"restart_required"`
		Hash            string
	}
	Redis struct {
		Configured, Up bool
		LastError      string `json:"last_error"`
	}
	Services map[string]service
}

type service struct {
	State       string `json:"circuit_breaker_state"`
	FailCounter int    `json:"fail_counter"`
	Since       time.Time
	RetryAt     *time.Time `json:"retry_at"`
	Forced      *struct {
		State, Reason, Scope string
		Until                *time.Time
	}
	Openings      int
	Cause         string
	Probing       bool
	Epoch         uint64
	Configuration struct {
		FailMax int `json:"fail_max"`
		Timeout float64
	}
}

func (p *proxyProcess) health() (h health) {
	p.t.Helper()
	res, err := http.Get(p.admin + "/api/v1/circuit-breakers/health")
	if err := json.Unmarshal([]byte(read(p.t, res, err).body), &h); err != nil {
		p.t.Fatal(err)
	}
	return h
}

// change holds the fields of a history entry that the tests use.
type change struct {
	Time                      time.Time
	From, To, Cause, Instance string
}

func (p *proxyProcess) history(service string) (changes []change) {
	p.t.Helper()
	res, err := http.Get(p.admin + "/api/v1/circuit-breakers/" + service + "/history")
	if err := json.Unmarshal([]byte(read(p.t, res, err).body), &changes); err != nil {
		p.t.Fatal(err)
	}
	return changes
}

// metric returns the value of a series, given as in the text format, e.g. a{b="c"}.
func (p *proxyProcess) metric(series string) float64 {
	p.t.Helper()
	for line := range strings.Lines(p.metrics()) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return v
		}
	}
	p.t.Fatalf("no series %s", series)
	return 0
}

func (p *proxyProcess) metrics() string {
	p.t.Helper()
	res, err := http.Get(p.admin + "/metrics")
	return read(p.t, res, err).body
}

// force posts a force-state body and returns the response.
func (p *proxyProcess) force(service, body string) response {
	p.t.Helper()
	r, err := http.NewRequest(http.MethodPost, p.admin+"/api/v1/circuit-breakers/"+service+"/force-state", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	return read(p.t, res, err)
}
