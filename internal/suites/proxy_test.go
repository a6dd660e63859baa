package suites

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// proxyProcess is a running cbproxy with one service, svc.
type proxyProcess struct {
	t     testing.TB
	data  string // address of the data plane
	admin string // URL of the admin API
	file  string // of the configuration
	log   string // file
}

// startProxy starts cbproxy with a configuration without addresses, and waits until it is ready. The test fails if there
// was a data race or a panic.
func startProxy(t testing.TB, config string) *proxyProcess {
	t.Helper()
	folder := t.TempDir()
	p := &proxyProcess{
		t: t, data: freeAddress(t), admin: "http://" + freeAddress(t),
		file: filepath.Join(folder, "config.yaml"), log: filepath.Join(folder, "log"),
	}
	p.write(config)
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the process has a duplicate
	command := exec.Command(binary, "run", "--config", p.file)
	command.Stderr = log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = command.Wait() // the log shows the error
		close(exited)
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-exited
		output := p.logged()
		if strings.Contains(output, "DATA RACE") || strings.Contains(output, "panic while serving") {
			t.Error("data race or panic in the proxy")
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", p.data, output)
		}
	})
	eventually(t, "the proxy is ready", func() bool {
		select {
		case <-exited:
			t.Fatalf("the proxy exited:\n%s", p.logged())
		default:
		}
		res, err := http.Get(p.admin + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return p
}

// write replaces the configuration but keeps the addresses. Nothing is stored on disk.
func (p *proxyProcess) write(config string) {
	p.t.Helper()
	head := fmt.Sprintf("listen: %s\nadmin: {listen: %s}\ndata_dir: \"\"\n", p.data, strings.TrimPrefix(p.admin, "http://"))
	if err := os.WriteFile(p.file, []byte(head+config), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// reload replaces the configuration and waits until it is active.
func (p *proxyProcess) reload(config string) {
	p.t.Helper()
	const accepted = `cbproxy_config_reloads_total{result="success"}`
	before := p.metrics()[accepted]
	p.write(config)
	eventually(p.t, "the configuration is active", func() bool { return p.metrics()[accepted] > before })
}

// logged returns the log of the process.
func (p *proxyProcess) logged() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// metrics holds the values of a scrape by series in the text format.
type metrics map[string]float64

// metrics scrapes the proxy.
func (p *proxyProcess) metrics() metrics {
	p.t.Helper()
	res, err := http.Get(p.admin + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	m := metrics{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(line, "#") {
			m[name] = v
		}
	}
	return m
}

// The states of a breaker in the metric.
const (
	closed = 0
	open   = 1
)

// state returns the state of the breaker, or -1 if it is missing.
func (m metrics) state() float64 {
	state, ok := m[`enhanced_circuit_breaker_state{service="svc"}`]
	if !ok {
		return -1
	}
	return state
}

func (m metrics) inFlight() float64 { return m[`cbproxy_requests_in_flight{service="svc"}`] }

var (
	failureSeries = regexp.MustCompile(`^enhanced_circuit_breaker_failures_total\{.*error_type="([a-z]+)"`)
	requestSeries = regexp.MustCompile(`^enhanced_circuit_breaker_requests_total\{.*status="([a-z]+)"`)
)

// failures returns the counted failures by type.
func (m metrics) failures() map[string]int { return m.counted(failureSeries) }

// requests returns the counted requests by outcome.
func (m metrics) requests() map[string]int { return m.counted(requestSeries) }

// counted returns the values of the matching series by their label, without zeros.
func (m metrics) counted(series *regexp.Regexp) map[string]int {
	counts := map[string]int{}
	for name, value := range m {
		if label := series.FindStringSubmatch(name); label != nil && value > 0 {
			counts[label[1]] = int(value)
		}
	}
	return counts
}

// settled waits until no request is in flight, and returns the metrics.
func (p *proxyProcess) settled() (m metrics) {
	p.t.Helper()
	eventually(p.t, "nothing is in flight", func() bool { m = p.metrics(); return m.inFlight() == 0 })
	return m
}
