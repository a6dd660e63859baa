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
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Recorder is an upstream process that records each request in a file before it responds, so that the
// record survives a kill of any process. The rules for its responses are in a file too, and survive a
// restart.
type Recorder struct {
	*Upstream
	file string
}

// Rule defines the response to requests that contain a text. The first matching rule applies. Without a
// match the response is 200 without a body.
type Rule struct {
	In      string
	Status  int
	Headers map[string]string
	Body    string
	Delay   time.Duration
}

// Record is a request received by a recorder, and the status of the response.
type Record struct {
	Time   time.Time
	Status int
	*http.Request
	BodyText string
}

// Succeeded reports whether the recorder answered the request with success.
func (r *Record) Succeeded() bool { return r.Status < 300 }

// NewRecorder returns a recorder that has not been started.
func NewRecorder(t testing.TB) *Recorder {
	t.Helper()
	r := &Recorder{&Upstream{T: t, Address: FreeAddress(t)}, filepath.Join(t.TempDir(), "record")}
	r.Env = []string{recordVariable + "=" + r.file}
	return r
}

// StartRecorder starts a recorder, and stops it at the end of the test.
func StartRecorder(t testing.TB) *Recorder {
	t.Helper()
	r := NewRecorder(t)
	r.Start()
	t.Cleanup(r.Kill)
	return r
}

// SetRules replaces the rules.
func (r *Recorder) SetRules(rules ...Rule) {
	r.T.Helper()
	text, err := json.Marshal(rules)
	if err != nil {
		r.T.Fatal(err)
	}
	fresh := rulesOf(r.file) + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		r.T.Fatal(err)
	}
	if err := os.Rename(fresh, rulesOf(r.file)); err != nil {
		r.T.Fatal(err)
	}
}

func rulesOf(file string) string { return file + ".rules" }

// Records returns all requests that the recorder has received, including those before a restart.
func (r *Recorder) Records() (all []Record) {
	r.T.Helper()
	content, err := os.ReadFile(r.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.T.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || !strings.HasSuffix(line, "\n") {
			r.T.Fatalf("the record has a line %q", line)
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

// SuccessfulBodies returns the bodies of the requests that were answered with success.
func (r *Recorder) SuccessfulBodies() (all []string) {
	r.T.Helper()
	for _, q := range r.Records() {
		if q.Succeeded() {
			all = append(all, q.BodyText)
		}
	}
	return all
}

// serveRecorder runs the recorder in its process.
func serveRecorder(address, file string) error {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := httputil.DumpRequest(r, true)
		if err != nil {
			panic(http.ErrAbortHandler) // the client has disconnected
		}
		a := ruleFor(file, raw)
		// One write, so that a kill leaves a whole line or none.
		if _, err := fmt.Fprintf(out, "%d %d %s\n", time.Now().UnixMicro(), a.Status, base64.StdEncoding.EncodeToString(raw)); err != nil {
			panic(err)
		}
		time.Sleep(a.Delay)
		for name, value := range a.Headers {
			w.Header().Set(name, value)
		}
		w.WriteHeader(a.Status)
		_, _ = io.WriteString(w, a.Body)
	}))
}

func ruleFor(file string, request []byte) Rule {
	text, _ := os.ReadFile(rulesOf(file)) // the file may not exist
	var rules []Rule
	_ = json.Unmarshal(text, &rules)
	for _, a := range rules {
		if bytes.Contains(request, []byte(a.In)) {
			return a
		}
	}
	return Rule{Status: http.StatusOK}
}

// UniqueBodies returns the accepted bodies without duplicates, in the order of their first delivery, and the
// number of duplicates.
func (r *Recorder) UniqueBodies() (bodies []string, more int) {
	for _, body := range r.SuccessfulBodies() {
		if slices.Contains(bodies, body) {
			more++
			continue
		}
		bodies = append(bodies, body)
	}
	return bodies, more
}

// AwaitDelivered waits until the recorder has accepted exactly the given bodies in that order.
func (r *Recorder) AwaitDelivered(bodies ...string) {
	r.T.Helper()
	Eventually(r.T, fmt.Sprintf("%d requests are delivered", len(bodies)), func() bool { return len(r.SuccessfulBodies()) >= len(bodies) })
	if got := r.SuccessfulBodies(); !slices.Equal(got, bodies) {
		r.T.Errorf("delivered %q, want %q", got, bodies)
	}
}

// Numbered returns n words made of prefix and a number.
func Numbered(prefix string, n int) (words []string) {
	for i := range n {
		words = append(words, fmt.Sprintf("%s%02d", prefix, i))
	}
	return words
}
