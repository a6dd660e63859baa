package harness

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
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

// Recorder is an upstream process that records each request in a file before it responds, so that no kill of a process
// loses a record. The rules for its responses are in a file too, and remain in force after a restart.
type Recorder struct {
	*Upstream
	file string // of the records
}

// Rule defines the response to requests that contain a text. The first rule that matches applies. If none matches, the
// response is 200 without a body.
type Rule struct {
	In      string // text in the request's head or body; "" matches every request
	Status  int
	Headers map[string]string
	Body    string
	Delay   time.Duration // before the response
}

// Record is a request that a recorder has received.
type Record struct {
	Time   time.Time
	Status int // of the response
	*http.Request
	BodyText string
}

// Succeeded reports whether the recorder responded with success.
func (r *Record) Succeeded() bool { return r.Status < 300 }

// NewRecorder returns a recorder that is not running. Its URL is valid.
func NewRecorder(t testing.TB) *Recorder {
	t.Helper()
	r := &Recorder{&Upstream{T: t, Address: FreeAddress(t)}, filepath.Join(t.TempDir(), "record")}
	r.Env = []string{recordVariable + "=" + r.file}
	return r
}

// StartRecorder starts a recorder. It is killed at the end of the test.
func StartRecorder(t testing.TB) *Recorder {
	t.Helper()
	r := NewRecorder(t)
	r.Start()
	t.Cleanup(r.Kill)
	return r
}

// SetRules replaces the rules atomically.
func (r *Recorder) SetRules(rules ...Rule) {
	r.T.Helper()
	text, err := json.Marshal(rules)
	if err != nil {
		r.T.Fatal(err)
	}
	replacement := rulesFile(r.file) + ".new"
	if err := os.WriteFile(replacement, text, 0o600); err != nil {
		r.T.Fatal(err)
	}
	if err := os.Rename(replacement, rulesFile(r.file)); err != nil {
		r.T.Fatal(err)
	}
}

// Records returns all requests that the recorder has received, in that order, including those before a restart.
func (r *Recorder) Records() (all []Record) {
	r.T.Helper()
	content, err := os.ReadFile(r.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.T.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written: a read can see a part of a write
		}
		fields := strings.Fields(line)
		if len(fields) != 3 {
			r.T.Fatalf("invalid record %q", line)
		}
		at, _ := strconv.ParseInt(fields[0], 10, 64)
		status, _ := strconv.Atoi(fields[1])
		raw, err := base64.StdEncoding.DecodeString(fields[2])
		if err != nil {
			r.T.Fatal(err)
		}
		q, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			r.T.Fatal(err)
		}
		body, err := io.ReadAll(q.Body)
		if err != nil {
			r.T.Fatal(err)
		}
		all = append(all, Record{time.UnixMicro(at), status, q, string(body)})
	}
	return all
}

// SuccessfulBodies returns the bodies of the requests to which the recorder responded with success.
func (r *Recorder) SuccessfulBodies() (all []string) {
	r.T.Helper()
	for _, q := range r.Records() {
		if q.Succeeded() {
			all = append(all, q.BodyText)
		}
	}
	return all
}

// UniqueBodies returns SuccessfulBodies without duplicates, in the order of the first occurrences, and the number of
// duplicates.
func (r *Recorder) UniqueBodies() (bodies []string, duplicates int) {
	for _, body := range r.SuccessfulBodies() {
		if slices.Contains(bodies, body) {
			duplicates++
			continue
		}
		bodies = append(bodies, body)
	}
	return bodies, duplicates
}

// AwaitDelivered waits for len(bodies) successful requests. It fails the test unless SuccessfulBodies then equals bodies,
// in that order.
func (r *Recorder) AwaitDelivered(bodies ...string) {
	r.T.Helper()
	Eventually(r.T, fmt.Sprintf("%d requests are delivered", len(bodies)), func() bool { return len(r.SuccessfulBodies()) >= len(bodies) })
	if got := r.SuccessfulBodies(); !slices.Equal(got, bodies) {
		r.T.Errorf("delivered %q, want %q", got, bodies)
	}
}
