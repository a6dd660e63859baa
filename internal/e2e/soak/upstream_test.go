package soak

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// soakVariable makes the test binary an upstream of the soak that writes down in the file of that
// name what it gets.
const soakVariable = "CBPROXY_E2E_SOAK"

// soakID is the field by which a request of the soak is known, and its answer.
const soakID = "X-Soak-Id"

// The moods of an upstream: what it does to requests until it is given another one.
const (
	moodGood    = ""
	moodErrors  = "errors"
	moodCut     = "cut"
	moodReset   = "reset"
	moodGarbage = "garbage"
	moodSlow    = "slow"
	moodMixed   = "mixed"
)

var badMoods = []string{moodErrors, moodCut, moodReset, moodGarbage, moodSlow, moodMixed}

// soakUpstream is an upstream process of the soak. Its mood is in a file, and so outlives it.
type soakUpstream struct {
	*harness.Upstream
	file string
	read int64 // bytes of the record that the ledger has seen
}

func startSoakUpstream(t testing.TB) *soakUpstream {
	t.Helper()
	u := &soakUpstream{Upstream: &harness.Upstream{T: t, Address: harness.FreeAddress(t)}, file: filepath.Join(t.TempDir(), "record")}
	u.Env = []string{soakVariable + "=" + u.file}
	u.Start()
	t.Cleanup(u.Kill)
	return u
}

func moodOf(file string) string { return file + ".mood" }

func (u *soakUpstream) setMood(mood string) {
	u.T.Helper()
	fresh := moodOf(u.file) + ".new"
	if err := os.WriteFile(fresh, []byte(mood), 0o600); err != nil {
		u.T.Fatal(err)
	}
	if err := os.Rename(fresh, moodOf(u.file)); err != nil {
		u.T.Fatal(err)
	}
}

// soakServer is what runs in the process.
type soakServer struct {
	file string
	out  *os.File
}

func serveSoak(address, file string) error {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s := &soakServer{file, out}
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.plain)
	mux.HandleFunc("/events", s.events)
	mux.HandleFunc("/socket", s.socket)
	mux.HandleFunc("/soak.Echo/Call", s.call)
	mux.HandleFunc("/healthy", func(w http.ResponseWriter, _ *http.Request) {
		if s.draw() != moodGood {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	server := http.Server{Addr: address, Handler: mux, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server.ListenAndServe()
}

// draw returns what is to be done to a request.
func (s *soakServer) draw() string {
	mood, _ := os.ReadFile(moodOf(s.file)) // there may be none
	if string(mood) != moodMixed {
		return string(mood)
	}
	return append([]string{moodGood, moodGood, moodGood}, badMoods[:len(badMoods)-1]...)[rand.IntN(len(badMoods)+2)]
}

// note writes a line for each kind: a for a request that has arrived, p for one of which a part has, w
// for one that is about to be answered well and in whole. It is one write, so that a kill leaves whole lines.
func (s *soakServer) note(r *http.Request, sum uint32, kinds string) {
	or := func(name, otherwise string) string {
		if v := r.Header.Get(name); v != "" {
			return v
		}
		return otherwise
	}
	var lines strings.Builder
	for _, kind := range kinds {
		fmt.Fprintf(&lines, "%c %s %s %s %08x %s\n", kind, or(soakID, "-"), r.Method, or("X-Delivery-Attempt", "0"), sum, or("Idempotency-Key", "-"))
	}
	if _, err := s.out.WriteString(lines.String()); err != nil {
		panic(err)
	}
}

// soakLine is what an answer to a request consists of, again and again: nobody else's has it.
func soakLine(id, target, tenant string, sum uint32) string {
	return fmt.Sprintf("%s %s %s %08x\n", id, target, tenant, sum)
}

// plain answers with as many lines as the query's pad says.
func (s *soakServer) plain(w http.ResponseWriter, r *http.Request) {
	digest := crc32.NewIEEE()
	if _, err := io.Copy(digest, r.Body); err != nil {
		s.note(r, 0, "p")
		panic(http.ErrAbortHandler)
	}
	sum, does := digest.Sum32(), s.draw()
	switch {
	case does == moodGood, does == moodCut && r.Header.Get("X-Delivery-Attempt") != "": // of a delivery the status is what counts
		s.note(r, sum, "aw")
	case does == moodSlow:
		s.note(r, sum, "a")
		s.delayResponse(r)
		s.note(r, sum, "w")
	default:
		s.note(r, sum, "a")
	}
	query := r.URL.Query()
	lines, _ := strconv.Atoi(query.Get("pad"))
	tenant := r.Header.Get("Authorization")
	body := strings.Repeat(soakLine(r.Header.Get(soakID), r.RequestURI, tenant, sum), max(lines, 1))
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set(soakID, r.Header.Get(soakID))
	h.Set("X-Fallback", "spoofed")
	h.Set("X-Circuit-Breaker-State", "spoofed")
	if !query.Has("chunked") {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	switch does {
	case moodErrors:
		w.WriteHeader(http.StatusInternalServerError)
	case moodCut:
		_, _ = io.WriteString(w, body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case moodReset:
		panic(http.ErrAbortHandler)
	case moodGarbage:
		writeMalformedResponse(w)
		return
	}
	_, _ = io.WriteString(w, body) // the client may have disconnected
}

func writeMalformedResponse(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(c, "nonsense\r\n\r\n")
	_ = c.Close()
}

// delayResponse waits, often longer than the proxy's timeout.
func (s *soakServer) delayResponse(r *http.Request) {
	select {
	case <-time.After(time.Duration(rand.IntN(2500)) * time.Millisecond):
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// events sends numbered events and says when that was all.
func (s *soakServer) events(w http.ResponseWriter, r *http.Request) {
	s.note(r, 0, "a")
	does := s.draw()
	w.Header().Set("Content-Type", "text/event-stream")
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	for i := range n {
		if i == n/2 && does != moodGood {
			if does != moodSlow {
				panic(http.ErrAbortHandler)
			}
			s.delayResponse(r)
		}
		fmt.Fprintf(w, "data: %s %d\n\n", r.Header.Get(soakID), i)
		_ = http.NewResponseController(w).Flush()
		time.Sleep(5 * time.Millisecond)
	}
	_, _ = io.WriteString(w, "event: end\n\n")
}

func (s *soakServer) socket(w http.ResponseWriter, r *http.Request) {
	s.note(r, 0, "a")
	if s.draw() != moodGood {
		panic(http.ErrAbortHandler)
	}
	harness.EchoUpgradedConnection(w, r)
}

// call echoes its message, as a gRPC server.
func (s *soakServer) call(w http.ResponseWriter, r *http.Request) {
	message, err := io.ReadAll(r.Body)
	s.note(r, crc32.ChecksumIEEE(message), "a")
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set(soakID, r.Header.Get(soakID))
	switch s.draw() {
	case moodErrors:
		h.Set("Grpc-Status", "13")
		return
	case moodSlow:
		s.delayResponse(r)
	case moodCut, moodReset, moodGarbage:
		_, _ = w.Write(message[:len(message)/2])
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(message)
	h.Set(http.TrailerPrefix+"Grpc-Status", "0")
}
