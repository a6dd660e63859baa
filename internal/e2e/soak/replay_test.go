package soak

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"cbproxy/internal/e2e/harness"
)

// replayRecords runs the recorded calls of the stable instances through the breakers of its configuration, as an operator does who looks for
// better thresholds. Every call is refused or passed, and two runs have the same output.
func (s *soakTest) replayRecords() {
	for _, p := range s.fleet[:stableInstances] {
		file := filepath.Join(s.t.TempDir(), "outcomes.ndjson")
		lines, failures := s.saveRecord(p, file)
		var outputs [2][]byte
		for i := range outputs {
			var stderr bytes.Buffer
			c := exec.CommandContext(s.t.Context(), harness.Binary(), "simulate", "--config", p.ConfigFile, "-o", "json", file)
			c.Stderr, c.Env = &stderr, append(os.Environ(), p.Env...)
			var err error
			if outputs[i], err = c.Output(); err != nil {
				s.t.Fatalf("instance %d: %v: %s", p.n, err, stderr.Bytes())
			}
		}
		if !bytes.Equal(outputs[0], outputs[1]) {
			s.t.Errorf("instance %d: two simulations of the same record differ", p.n)
		}
		var report struct {
			Services map[string]struct {
				Calls, Failures int
				Config          struct {
					Openings, Refused int
					RefusedGood       int `json:"refused_good"`
					FailuresPassed    int `json:"failures_passed"`
				}
			}
		}
		if err := json.Unmarshal(outputs[0], &report); err != nil {
			s.t.Fatal(err)
		}
		calls, failed := 0, 0
		for name, r := range report.Services {
			calls, failed = calls+r.Calls, failed+r.Failures
			if c := r.Config; c.FailuresPassed > r.Failures || c.Refused > r.Calls || c.RefusedGood > c.Refused {
				s.t.Errorf("instance %d, %s: %+v", p.n, name, r)
			}
		}
		if calls != lines || failed != failures || failures == 0 {
			s.t.Errorf("instance %d: the simulation has %d calls, %d of them failed; the record %d and %d", p.n, calls, failed, lines, failures)
		}
		s.t.Logf("instance %d: %d recorded calls, %d failures, replayed", p.n, lines, failures)
	}
}

// saveRecord writes the recorded calls of an instance to a file, without those of services that its configuration may not have, and
// returns how many there are.
func (s *soakTest) saveRecord(p *instance, file string) (lines, failures int) {
	res, err := http.Get(p.AdminURL + "/api/v1/outcomes")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatalf("%d, %v", res.StatusCode, err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(content)) {
		if strings.Contains(line, `"service":"extra"`) {
			continue
		}
		lines++
		if strings.Contains(line, `"outcome":"failure"`) {
			failures++
		}
		kept.WriteString(line)
	}
	if err := os.WriteFile(file, []byte(kept.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return lines, failures
}
