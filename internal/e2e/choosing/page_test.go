package choosing

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// page is the content of docs/choosing.md. A comment before a block of YAML names the configuration that it shows, and a recording is
// between two comments.
type page string

var pageFile = filepath.Join(harness.Repository, "docs/choosing.md")

func readPage(t *testing.T) page {
	t.Helper()
	return page(harness.ReadFile(t, pageFile))
}

// config returns the keys of a route that the page shows under a name.
func (p page) config(t *testing.T, name string) string {
	t.Helper()
	m := regexp.MustCompile("(?s)<!-- run: " + regexp.QuoteMeta(name) + " -->\n```yaml\n(.*?)```\n").FindStringSubmatch(string(p))
	if m == nil {
		t.Fatalf("the page has no configuration %s", name)
	}
	return m[1]
}

// place returns the recording of a scenario with the comments around it, and whether it was made with the scenario's present settings.
func (p page) place(t *testing.T, s *scenario) (recording string, current bool) {
	t.Helper()
	m := regexp.MustCompile(`(?s)<!-- Recorded by go test ./internal/e2e/choosing -update: ` + s.name + `. -->\n.*?<!-- End of the recording(.*?). -->\n`).FindStringSubmatch(string(p))
	if m == nil {
		t.Fatalf("the page has no place for the recording of %s", s.name)
	}
	return m[0], m[1] == " with settings "+p.checksum(t, s)
}

// checksum identifies the settings of a scenario: what the page shows and the traffic.
func (p page) checksum(t *testing.T, s *scenario) string {
	t.Helper()
	text := fmt.Sprint(s.configs, s.speed, s.timeout, s.traffic, s.row)
	for _, name := range s.configs {
		if name != defaults {
			text += p.config(t, name)
		}
	}
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text)))
}

// record writes recordings into the page, and pictures into the folder beside it.
func (p page) record(t *testing.T, all map[*scenario]map[string]*run) {
	t.Helper()
	for s, runs := range all {
		previous, _ := p.place(t, s)
		recording := fmt.Sprintf(`<!-- Recorded by go test ./internal/e2e/choosing -update: %s. -->

![What clients got with %s](choosing/%s.svg)

%s
<details><summary>All numbers</summary>

%s
</details>

<!-- End of the recording with settings %s. -->
`, s.name, strings.Join(s.configs, ", "), s.name, s.summary(runs), s.table(runs), p.checksum(t, s))
		p = page(strings.Replace(string(p), previous, recording, 1))
		writeFile(t, filepath.Join(filepath.Dir(pageFile), "choosing", s.name+".svg"), s.picture(runs))
	}
	writeFile(t, pageFile, string(p))
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
