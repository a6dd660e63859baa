package endpoints

import (
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

var update = flag.Bool("update", false, "run the comparison with HAProxy and nginx, which must be installed, and record it in docs/endpoints.md")

// scenario is how two of three endpoints fail under 200 calls a second. One of them comes back.
type scenario struct {
	name  string
	title string
	fail  func(s *server)
	heal  func(s *server)
}

var scenarios = []*scenario{
	{name: "refused", title: "Two endpoints refuse connections", fail: (*server).kill, heal: (*server).start},
	{
		name: "status", title: "Two endpoints answer everything with status 500",
		fail: func(s *server) { s.status.Store(500) }, heal: func(s *server) { s.status.Store(0) },
	},
}

// The phases of a scenario, in calls of which there are 200 a second.
const (
	callsBefore = 3 * 200
	callsFirst  = 200 // the first second
	callsFailed = 39 * 200
	callsAfter  = 60 * 200
)

// result is what a proxy made of a scenario.
type result struct {
	first, failed, after int           // failed calls: in the first second, later, and after one endpoint has come back
	toFailing            int           // calls that the failing endpoints got after the first second
	back                 time.Duration // until the endpoint that has come back got a call; 0: it got none
}

// run sends the traffic to url, behind which are three servers.
func (sc *scenario) run(t *testing.T, url string, servers []*server) (r result) {
	tr := newTrafficTo(t, url+countedPath, "GET")
	tr.send(callsBefore)
	sc.fail(servers[1])
	sc.fail(servers[2])
	failed := tr.sent
	tr.send(callsFirst)
	got := servers[1].counted.Load() + servers[2].counted.Load()
	tr.send(callsFailed)
	r.toFailing = int(servers[1].counted.Load() + servers[2].counted.Load() - got)
	healed, before := tr.sent, servers[1].counted.Load()
	sc.heal(servers[1])
	start := time.Now()
	for n := 0; n < callsAfter; n += 20 {
		tr.send(20)
		if r.back == 0 && servers[1].counted.Load() > before {
			r.back = time.Since(start)
		}
	}
	r.first = tr.failedBetween(failed, failed+callsFirst).n
	r.failed = tr.failedBetween(failed+callsFirst, healed).n
	r.after = tr.failedBetween(healed, tr.sent).n
	return r
}

// TestComparison checks that the recording of each scenario is of the present settings. With -update it makes them.
func TestComparison(t *testing.T) {
	file := filepath.Join(harness.Repository, "docs/endpoints.md")
	page := string(harness.ReadFile(t, file))
	for _, sc := range scenarios {
		m := regexp.MustCompile(`(?s)<!-- Recorded by go test ./internal/e2e/endpoints -run Comparison -update: ` + sc.name + `. -->\n.*?<!-- End of the recording(.*?). -->\n`).FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("the page has no place for the recording of %s", sc.name)
		}
		checksum := sc.checksum()
		if *update {
			page = strings.Replace(page, m[0], fmt.Sprintf("<!-- Recorded by go test ./internal/e2e/endpoints -run Comparison -update: %s. -->\n%s<!-- End of the recording with settings %s. -->\n",
				sc.name, sc.record(t), checksum), 1)
		} else if m[1] != " with settings "+checksum {
			t.Errorf("the recording of %s was made with other settings; go test ./internal/e2e/endpoints -run Comparison -update makes a new one", sc.name)
		}
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// checksum identifies the settings of the scenario.
func (sc *scenario) checksum() string {
	text := fmt.Sprint(sc.name, callsBefore, callsFirst, callsFailed, callsAfter, rate, countedPath)
	for _, c := range contenders {
		text += c.name + c.settings(sc)
	}
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text)))
}

// record runs the scenario with all contenders at the same time, and returns the table.
func (sc *scenario) record(t *testing.T) string {
	results := make([]result, len(contenders))
	var all sync.WaitGroup
	for i, c := range contenders {
		servers, _ := startServers(t, 3)
		url := c.start(t, sc, servers)
		all.Go(func() { results[i] = sc.run(t, url, servers) })
	}
	all.Wait()
	text := &strings.Builder{}
	fmt.Fprintf(text, "\n| %s | failed in the first second, of %d | in the next 39 s, of %d | after the return, of %d | to the failing endpoints after the first second | first call after the return |\n| --- | --- | --- | --- | --- | --- |\n",
		sc.title, callsFirst, callsFailed, callsAfter)
	for i, c := range contenders {
		r := results[i]
		toFailing, back := fmt.Sprint(r.toFailing), "none in 60 s"
		if sc.name == "refused" {
			toFailing = "–" // nothing counts connections that are refused
		}
		if r.back > 0 {
			back = fmt.Sprintf("%.1f s", r.back.Seconds())
		}
		fmt.Fprintf(text, "| %s | %d | %d | %d | %s | %s |\n", c.name, r.first, r.failed, r.after, toFailing, back)
	}
	return text.String() + "\n"
}
