package accesslog

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"
)

var arrived = time.Date(2026, 11, 25, 12, 0, 0, 250_000_000, time.UTC)

func successRecord() *events.AccessRecord {
	return &events.AccessRecord{
		Outcome: events.Outcome{Service: "rag_service", Result: events.ResultSuccess, Attempts: 1, Duration: 12345678 * time.Nanosecond},
		Arrived: arrived, Method: "GET", Path: "/rag/x", Query: "token=secret", Protocol: "HTTP/1.1", UserAgent: "curl/8", Client: "127.0.0.1:999",
		Status: 200, Upstream: 10 * time.Millisecond, Header: 11 * time.Millisecond, RequestBytes: 3, ResponseBytes: 44,
	}
}

// line returns the line that is written for a. It fails the test if there is more than one.
func line(t testing.TB, a *events.AccessRecord, format, instance string, query bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := handle(newHandler(&b, format, instance), a, query); err != nil {
		t.Fatal(err)
	}
	text, ok := strings.CutSuffix(b.String(), "\n")
	if !ok || strings.ContainsAny(text, "\r\n") {
		t.Fatalf("not one line: %q", b.String())
	}
	return text
}

func TestLines(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a *events.AccessRecord)
		query  bool
		json   string // the part after time, level, message and instance
	}{
		"success": {func(*events.AccessRecord) {}, false,
			`"service":"rag_service","method":"GET","path":"/rag/x","protocol":"HTTP/1.1","status":200,"outcome":"success","state":"closed","attempts":1,` +
				`"duration_ms":12.345,"upstream_ms":10,"header_ms":11,"request_bytes":3,"response_bytes":44,"client":"127.0.0.1:999","user_agent":"curl/8"}`},
		"hedged at an endpoint": {func(a *events.AccessRecord) {
			a.Attempts, a.Endpoint, a.Hedged, a.UserAgent = 2, "http://rag-2:8000", true, ""
		}, false,
			`"service":"rag_service","method":"GET","path":"/rag/x","protocol":"HTTP/1.1","status":200,"outcome":"success","state":"closed","attempts":2,` +
				`"endpoint":"http://rag-2:8000","hedged":true,"duration_ms":12.345,"upstream_ms":10,"header_ms":11,"request_bytes":3,"response_bytes":44,"client":"127.0.0.1:999"}`},
		"query": {func(a *events.AccessRecord) { a.UserAgent = "" }, true,
			`"service":"rag_service","method":"GET","path":"/rag/x","query":"token=secret","protocol":"HTTP/1.1","status":200,"outcome":"success","state":"closed","attempts":1,` +
				`"duration_ms":12.345,"upstream_ms":10,"header_ms":11,"request_bytes":3,"response_bytes":44,"client":"127.0.0.1:999"}`},
		"traced": {func(a *events.AccessRecord) {
			a.TraceID, a.SpanID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
		}, false,
			`"service":"rag_service","method":"GET","path":"/rag/x","protocol":"HTTP/1.1","status":200,"outcome":"success","state":"closed","attempts":1,` +
				`"duration_ms":12.345,"upstream_ms":10,"header_ms":11,"request_bytes":3,"response_bytes":44,"client":"127.0.0.1:999","user_agent":"curl/8",` +
				`"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}`},
		"open": {func(a *events.AccessRecord) {
			a.Result, a.State, a.Attempts, a.Strategy, a.Reason, a.Upstream = events.ResultRejected, events.Open, 0, "static", events.ReasonOpen, 0
		}, false,
			`"service":"rag_service","method":"GET","path":"/rag/x","protocol":"HTTP/1.1","status":200,"outcome":"rejected","state":"open","attempts":0,` +
				`"fallback":"static","reason":"open","duration_ms":12.345,"header_ms":11,"request_bytes":3,"response_bytes":44,"client":"127.0.0.1:999","user_agent":"curl/8"}`},
		"failed and shed": {func(a *events.AccessRecord) {
			a.Result, a.State, a.Attempts, a.Failure, a.Shed, a.Truncated = events.ResultFailure, events.HalfOpen, 2, &events.Failure{Type: events.ErrorConnect, Detail: "10.0.0.1"}, events.ShedByRoute, true
		}, false,
			`"service":"rag_service","method":"GET","path":"/rag/x","protocol":"HTTP/1.1","status":200,"outcome":"failure","state":"half-open","attempts":2,"error":"connect",` +
				`"shed":"route","cut":true,"duration_ms":12.345,"upstream_ms":10,"header_ms":11,"request_bytes":3,"response_bytes":44,"client":"127.0.0.1:999","user_agent":"curl/8"}`},
		"gRPC": {func(a *events.AccessRecord) { a.Protocol, a.GRPCStatus = "HTTP/2.0", "NOT_FOUND" }, false,
			`"service":"rag_service","method":"GET","path":"/rag/x","protocol":"HTTP/2.0","status":200,"grpc_status":"NOT_FOUND","outcome":"success","state":"closed","attempts":1,` +
				`"duration_ms":12.345,"upstream_ms":10,"header_ms":11,"request_bytes":3,"response_bytes":44,"client":"127.0.0.1:999","user_agent":"curl/8"}`},
		"unparsable request": {func(a *events.AccessRecord) {
			*a = events.AccessRecord{Arrived: a.Arrived, Status: 431, Client: "127.0.0.1:999"}
		}, true,
			`"status":431,"outcome":"refused","client":"127.0.0.1:999"}`},
		"no route": {func(a *events.AccessRecord) {
			*a = events.AccessRecord{Arrived: a.Arrived, Method: "GET", Path: "/", Protocol: "HTTP/2.0", Status: 404, Client: "@"}
		}, false,
			`"method":"GET","path":"/","protocol":"HTTP/2.0","status":404,"outcome":"refused","duration_ms":0,"request_bytes":0,"response_bytes":0,"client":"@"}`},
	} {
		t.Run(name, func(t *testing.T) {
			a := successRecord()
			c.change(a)
			want := `{"time":"2026-11-25T12:00:00.25Z","level":"INFO","msg":"request","instance":"one",` + c.json
			if got := line(t, a, "json", "one", c.query); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	const want = `time=2026-11-25T12:00:00.250Z level=INFO msg=request instance=one service=rag_service method=GET path=/rag/x protocol=HTTP/1.1 status=200 ` +
		`outcome=success state=closed attempts=1 duration_ms=12.345 upstream_ms=10 header_ms=11 request_bytes=3 response_bytes=44 client=127.0.0.1:999 user_agent=curl/8`
	if got := line(t, successRecord(), "text", "one", false); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

const maxLine = maxPipeWrite - 1 // bytes of a line without its newline

// FuzzLines checks that each record is a single line of bounded length that parses and has no control characters, whatever the
// request contains.
func FuzzLines(f *testing.F) {
	for _, evil := range []string{
		"a\nlevel=ERROR msg=forged", "a\r\n{\"level\":\"ERROR\"}", "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "a\x00b", "\x7f\x08", "\u009b31m", "\x9b31m\xff", "\u202eforged\u2066",
		"\u2028", "\ufffd", "\"\\\" level=ERROR msg=\"", strings.Repeat("A", 1<<20), strings.Repeat("\x1b", 50_000), strings.Repeat("\"", 5000), strings.Repeat("\\", 5000), strings.Repeat("é", 5000),
	} {
		f.Add(evil, evil, evil)
		f.Add("GET", "/"+evil, "")
	}
	f.Fuzz(func(t *testing.T, word, path, query string) {
		a := successRecord()
		a.Service, a.Attempts, a.Truncated = strings.Repeat("s", maxName), 1<<30, true
		a.Strategy, a.Reason, a.Shed, a.Failure = "a_strategy_of_ones_own", events.ReasonHalfOpenLimit, events.ShedByRoute, &events.Failure{Type: events.ErrorTruncated}
		a.GRPCStatus, a.Endpoint, a.Hedged = "FAILED_PRECONDITION", "http://"+strings.Repeat("e", maxEndpoint), true
		a.TraceID = "4bf92f3577b34da6a3ce929d0e0e4736"
		a.Duration, a.Upstream, a.Header, a.RequestBytes, a.ResponseBytes = 1<<62, 1<<62, 1<<62, 1<<62, 1<<62
		a.Method, a.Path, a.Query, a.Protocol, a.UserAgent, a.Client = word, path, query, word, query, word
		for _, format := range []string{"json", "text"} {
			got := line(t, a, format, strings.Repeat("i", 72), true)
			if len(got) > maxLine {
				t.Fatalf("%d bytes", len(got))
			}
			if i := strings.IndexFunc(got, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }); i >= 0 {
				t.Fatalf("%q in %.300q", got[i:][:1], got)
			}
			if format == "json" {
				var fields map[string]any
				if err := json.Unmarshal([]byte(got), &fields); err != nil || fields["msg"] != "request" || fields["service"] != a.Service || fields["outcome"] != "success" {
					t.Fatalf("%v in %.300q", err, got)
				}
				continue
			}
			if fields := textFields(t, got); fields["msg"] != "request" || fields["level"] != "INFO" || fields["path"] != sanitize.Line(path, maxPath) {
				t.Fatalf("forged: %.300q", got)
			}
		}
	})
}

// textFields parses key=value pairs. It fails the test if a key occurs twice.
func textFields(t *testing.T, rest string) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for rest != "" {
		key, value, ok := strings.Cut(rest, "=")
		if _, duplicate := fields[key]; !ok || duplicate || key == "" || strings.ContainsAny(key, " \"") {
			t.Fatalf("key %q before %.200q", key, value)
		}
		quoted, err := strconv.QuotedPrefix(value)
		if err == nil && quoted[0] == '"' {
			rest = value[len(quoted):]
			value, _ = strconv.Unquote(quoted)
		} else if i := strings.IndexByte(value, ' '); i >= 0 {
			value, rest = value[:i], value[i:]
		} else {
			rest = ""
		}
		fields[key] = value
		if rest != "" && rest[0] != ' ' {
			t.Fatalf("after %s: %.200q", key, rest)
		}
		rest = strings.TrimPrefix(rest, " ")
	}
	return fields
}

func TestLongFieldsAreTruncated(t *testing.T) {
	a := successRecord()
	a.Path = "/" + strings.Repeat("x", 1<<20)
	if got := line(t, a, "text", "one", false); !strings.Contains(got, strconv.Itoa(1<<20+1-maxPath)+" bytes more") {
		t.Errorf("the line does not say how many bytes were left out: %.1500s", got)
	}
}
