package soak

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"cbproxy/internal/e2e/harness"
)

// recordEvent is an event in the record of an upstream.
type recordEvent byte

const (
	eventComplete recordEvent = 'c' // a complete request was received
	eventPartial  recordEvent = 'p' // a part of a request was received
	eventSuccess  recordEvent = 's' // a complete, successful response is about to be sent
)

// upstreamServer handles the requests of an upstream in its process.
type upstreamServer struct {
	file string
	out  *os.File
}

// serveUpstream runs an upstream that listens at address and appends events to file. It returns only on an error.
func serveUpstream(address, file string) error {
	out, err := harness.OpenRecord(file)
	if err != nil {
		return err
	}
	s := &upstreamServer{file, out}
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.plain)
	mux.HandleFunc("/events", s.events)
	mux.HandleFunc("/socket", s.socket)
	mux.HandleFunc("/soak.Echo/Call", s.call)
	mux.HandleFunc("/healthy", func(w http.ResponseWriter, _ *http.Request) {
		if s.mode() != modeHealthy {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	server := http.Server{Addr: address, Handler: mux, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server.ListenAndServe()
}

// mode returns the mode for a request, which is never modeMixed.
func (s *upstreamServer) mode() string {
	mode, _ := os.ReadFile(modeFile(s.file)) // the file may not exist
	if string(mode) != modeMixed {
		return string(mode)
	}
	return append([]string{modeHealthy, modeHealthy, modeHealthy}, faultModes[:len(faultModes)-1]...)[rand.IntN(len(faultModes)+2)]
}

// record writes a line for each event. It makes a single write, so that lines of concurrent requests do not mix.
func (s *upstreamServer) record(r *http.Request, bodySum uint32, events ...recordEvent) {
	field := func(name, missing string) string {
		if v := r.Header.Get(name); v != "" {
			return v
		}
		return missing
	}
	var lines strings.Builder
	for _, e := range events {
		fmt.Fprintf(&lines, "%c %s %s %s %08x %s\n", e, field(idField, "-"), r.Method, field("X-Delivery-Attempt", "0"), bodySum, field("Idempotency-Key", "-"))
	}
	if _, err := s.out.WriteString(lines.String()); err != nil {
		panic(err)
	}
}

// responseLine returns a line of the response to a request. The response repeats it, and no other request has the same.
func responseLine(id, target, tenant string, bodySum uint32) string {
	return fmt.Sprintf("%s %s %s %08x\n", id, target, tenant, bodySum)
}

// plain responds with as many lines as the query parameter pad says, at least one.
func (s *upstreamServer) plain(w http.ResponseWriter, r *http.Request) {
	digest := crc32.NewIEEE()
	if _, err := io.Copy(digest, r.Body); err != nil {
		s.record(r, 0, eventPartial)
		panic(http.ErrAbortHandler)
	}
	sum, mode := digest.Sum32(), s.mode()
	switch {
	case mode == modeHealthy, mode == modeCut && r.Header.Get("X-Delivery-Attempt") != "": // the status decides about a delivery, not the body
		s.record(r, sum, eventComplete, eventSuccess)
	case mode == modeSlow:
		s.record(r, sum, eventComplete)
		s.delayResponse(r)
		s.record(r, sum, eventSuccess)
	default:
		s.record(r, sum, eventComplete)
	}
	query := r.URL.Query()
	lines, _ := strconv.Atoi(query.Get("pad"))
	tenant := r.Header.Get("Authorization")
	body := strings.Repeat(responseLine(r.Header.Get(idField), r.RequestURI, tenant, sum), max(lines, 1))
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set(idField, r.Header.Get(idField))
	h.Set("X-Fallback", "spoofed")
	h.Set("X-Circuit-Breaker-State", "spoofed")
	if !query.Has("chunked") {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	switch mode {
	case modeErrors:
		w.WriteHeader(http.StatusInternalServerError)
	case modeCut:
		_, _ = io.WriteString(w, body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case modeReset:
		panic(http.ErrAbortHandler)
	case modeGarbage:
		writeMalformedResponse(w)
		return
	}
	_, _ = io.WriteString(w, body) // the client may have disconnected
}

// writeMalformedResponse responds with data that is not HTTP. Over HTTP/2 it resets the stream.
func writeMalformedResponse(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(c, "nonsense\r\n\r\n")
	_ = c.Close()
}

// delayResponse waits for a random time, which is often longer than the proxy's timeout.
func (s *upstreamServer) delayResponse(r *http.Request) {
	select {
	case <-time.After(time.Duration(rand.IntN(2500)) * time.Millisecond):
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// events sends numbered server-sent events, and a last event that marks the end.
func (s *upstreamServer) events(w http.ResponseWriter, r *http.Request) {
	s.record(r, 0, eventComplete)
	mode := s.mode()
	w.Header().Set("Content-Type", "text/event-stream")
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	for i := range n {
		if i == n/2 && mode != modeHealthy {
			if mode != modeSlow {
				panic(http.ErrAbortHandler)
			}
			s.delayResponse(r)
		}
		fmt.Fprintf(w, "data: %s %d\n\n", r.Header.Get(idField), i)
		_ = http.NewResponseController(w).Flush()
		time.Sleep(5 * time.Millisecond)
	}
	_, _ = io.WriteString(w, "event: end\n\n")
}

// socket upgrades the connection and echoes all data.
func (s *upstreamServer) socket(w http.ResponseWriter, r *http.Request) {
	s.record(r, 0, eventComplete)
	if s.mode() != modeHealthy {
		panic(http.ErrAbortHandler)
	}
	harness.EchoUpgradedConnection(w, r)
}

// call is a gRPC method that returns its message.
func (s *upstreamServer) call(w http.ResponseWriter, r *http.Request) {
	message, err := io.ReadAll(r.Body)
	s.record(r, crc32.ChecksumIEEE(message), eventComplete)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set(idField, r.Header.Get(idField))
	switch s.mode() {
	case modeErrors:
		h.Set("Grpc-Status", "13")
		return
	case modeSlow:
		s.delayResponse(r)
	case modeCut, modeReset, modeGarbage:
		_, _ = w.Write(message[:len(message)/2])
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(message)
	h.Set(http.TrailerPrefix+"Grpc-Status", "0")
}
