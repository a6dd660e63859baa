package e2e

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

// recorder is an upstream process that records each request in a file before it responds, so that the
// record survives a kill of any process. The rules for its responses are in a file too, and survive a
// restart.
type recorder struct {
	*upstreamProcess
	file string
}

// rule defines the response to requests that contain a text. The first matching rule applies. Without a
// match the response is 200 without a body.
type rule struct {
	In      string
	Status  int
	Headers map[string]string
	Body    string
	Delay   time.Duration
}

// record is a request received by a recorder, and the status of the response.
type record struct {
	at     time.Time
	status int
	*http.Request
	body string
}

func (r *record) taken() bool { return r.status < 300 }

// newRecorder returns a recorder that has not been started.
func newRecorder(t testing.TB) *recorder {
	t.Helper()
	r := &recorder{&upstreamProcess{t: t, address: freeAddress(t)}, filepath.Join(t.TempDir(), "record")}
	r.environment = []string{recordVariable + "=" + r.file}
	return r
}

func startRecorder(t testing.TB) *recorder {
	t.Helper()
	r := newRecorder(t)
	r.start()
	t.Cleanup(r.kill)
	return r
}

// answer replaces the rules.
func (r *recorder) answer(rules ...rule) {
	r.t.Helper()
	text, err := json.Marshal(rules)
	if err != nil {
		r.t.Fatal(err)
	}
	fresh := rulesOf(r.file) + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(fresh, rulesOf(r.file)); err != nil {
		r.t.Fatal(err)
	}
}

func rulesOf(file string) string { return file + ".rules" }

// records returns all requests that the recorder has received, including those before a restart.
func (r *recorder) records() (all []record) {
	r.t.Helper()
	content, err := os.ReadFile(r.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || !strings.HasSuffix(line, "\n") {
			r.t.Fatalf("the record has a line %q", line)
		}
		at, _ := strconv.ParseInt(fields[0], 10, 64)
		status, _ := strconv.Atoi(fields[1])
		raw, err := base64.StdEncoding.DecodeString(fields[2])
		if err != nil {
			r.t.Fatal(err)
		}
		q, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			r.t.Fatal(err)
		}
		body, err := io.ReadAll(q.Body)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, record{time.UnixMicro(at), status, q, string(body)})
	}
	return all
}

// bodies returns the bodies of the requests that were answered with success.
func (r *recorder) bodies() (all []string) {
	r.t.Helper()
	for _, q := range r.records() {
		if q.taken() {
			all = append(all, q.body)
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

func ruleFor(file string, request []byte) rule {
	text, _ := os.ReadFile(rulesOf(file)) // the file may not exist
	var rules []rule
	_ = json.Unmarshal(text, &rules)
	for _, a := range rules {
		if bytes.Contains(request, []byte(a.In)) {
			return a
		}
	}
	return rule{Status: http.StatusOK}
}

// unique returns the accepted bodies without duplicates, in the order of their first delivery, and the
// number of duplicates.
func (r *recorder) unique() (bodies []string, more int) {
	for _, body := range r.bodies() {
		if slices.Contains(bodies, body) {
			more++
			continue
		}
		bodies = append(bodies, body)
	}
	return bodies, more
}

// awaitTaken waits until the recorder has accepted exactly the given bodies in that order.
func (r *recorder) awaitTaken(bodies ...string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d requests are delivered", len(bodies)), func() bool { return len(r.bodies()) >= len(bodies) })
	if got := r.bodies(); !slices.Equal(got, bodies) {
		r.t.Errorf("delivered %q, want %q", got, bodies)
	}
}

// numbered returns n words made of prefix and a number.
func numbered(prefix string, n int) (words []string) {
	for i := range n {
		words = append(words, fmt.Sprintf("%s%02d", prefix, i))
	}
	return words
}
