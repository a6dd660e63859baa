package endpoint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/endpoint"
	"cbproxy/fallbacks/fallbacktest"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/internal/events"
)

// newOptions returns the default options with a URL and a long timeout.
func newOptions(t testing.TB, url string) *endpoint.Options {
	t.Helper()
	o := endpoint.DefaultOptions()
	o.URL, o.Timeout = fallbacktest.ParseUpstream(t, url), 10*time.Second // for slow machines
	return o
}

func TestEndpointGetsTheEnvelope(t *testing.T) {
	posted := make(chan string, 1)
	s := fallbacktest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		posted <- fmt.Sprintln(r.Method, r.RequestURI, r.Header["Content-Type"], r.Header["Accept"], r.ContentLength == int64(len(body))) + string(body)
		w.WriteHeader(http.StatusNoContent)
	})
	o := newOptions(t, s.URL+"/answers/now")
	o.Headers, o.MaxBody = []string{"accept-language", "X-Missing"}, 8
	chain := fallbacktest.NewProcess().StartChain(t, "http", o)
	for _, test := range []struct{ body, want string }{
		{"", ""},
		{"a<b>\n", `,"body":"a<b>\n"`},
		{"\xff\x00", `,"body_base64":"/wA="`},
		{"too large", `,"body_omitted":"too large"`},
	} {
		r := &fallbacktest.Client{Content: []byte(test.body), Req: fallbacks.Request{
			Service: "svc", Method: "PUT", Host: "client.example", Path: "/svc/a%2Fb", Rest: "/a%2Fb", Query: "a=%&b",
			Header: http.Header{"Accept-Language": {"de", "en"}, "Authorization": {"secret"}, "Cookie": {"secret"}},
		}}
		if _, err := fallbacktest.Answer(t, chain, r); err == nil || !strings.Contains(err.Error(), "no answer") {
			t.Errorf("%q: 204: %v", test.body, err)
		}
		want := "POST /answers/now [application/json] [application/json] true\n" +
			`{"version":1,"service":"svc","reason":"open","method":"PUT","host":"client.example","path":"/svc/a%2Fb","query":"a=%&b",` +
			`"headers":{"Accept-Language":["de","en"]}` + test.want + "}\n"
		if got := <-posted; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if chain.BodyLimit() != 8 {
		t.Errorf("body limit %d", chain.BodyLimit())
	}
}

func TestEndpointGetsNoHeaderByDefault(t *testing.T) {
	s := fallbacktest.Serve(t, func(_ http.ResponseWriter, r *http.Request) {
		var q struct{ Headers map[string][]string }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Headers == nil || len(q.Headers) > 0 || r.Header["Cookie"] != nil {
			t.Errorf("got %+v, %v and %v", q, err, r.Header)
		}
	})
	r := fallbacktest.NewGET()
	r.Req.Header.Set("Cookie", "secret")
	_, _ = fallbacktest.Answer(t, fallbacktest.NewProcess().StartChain(t, "http", newOptions(t, s.URL)), r)
	if s.Requests.Load() != 1 {
		t.Error("the endpoint got no request")
	}
}

func TestEndpointAnswer(t *testing.T) {
	for text, want := range map[string]fallbacks.Answer{
		`{"status":200}`: {Status: 200},
		`{"status":203, "body": { "z" : 1.50,"a":"\u00e9<>", "z":[ ] } }`: {
			Status: 203, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{ "z" : 1.50,"a":"\u00e9<>", "z":[ ] }`)},
		` {"body":null,"status":500}` + "\n": {Status: 500, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte("null")},
		`{"status":200,"headers":{"content-type":"application/problem+json","X-A":["1","2"]},"body":1}`: {
			Status: 200, Header: http.Header{"Content-Type": {"application/problem+json"}, "X-A": {"1", "2"}}, Body: []byte("1")},
		`{"status":200,"body_text":"<a>\né"}`:                                              {Status: 200, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, Body: []byte("<a>\né")},
		`{"status":200,"body_text":""}`:                                                    {Status: 200, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}},
		`{"status":200,"headers":{"Content-Type":"image/png"},"body_base64":"/wA="}`:       {Status: 200, Header: http.Header{"Content-Type": {"image/png"}}, Body: []byte("\xff\x00")},
		`{"status":200,"body_base64":"aGk="}`:                                              {Status: 200, Body: []byte("hi")},
		`{"status":204,"headers":{"X-A":"1"}}`:                                             {Status: 204, Header: http.Header{"X-A": {"1"}}},
		`{"status":302,"headers":{"Location":"/y","X-Fallback":"forged","Connection":""}}`: {Status: 302, Header: http.Header{"Location": {"/y"}}},
	} {
		text = strings.ReplaceAll(text, "\né", `\né`)
		s := fallbacktest.Serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
		a, err := fallbacktest.Answer(t, fallbacktest.NewProcess().StartChain(t, "http", newOptions(t, s.URL)), fallbacktest.NewGET())
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		h := a.Header.Clone()
		h.Del("Content-Length")
		if h["Content-Type"] == nil {
			delete(h, "Content-Type")
		}
		if a.Status != want.Status || string(a.Body) != string(want.Body) || len(h)+len(want.Header) > 0 && !reflect.DeepEqual(h, want.Header) {
			t.Errorf("%s: got %d %v %s", text, a.Status, h, a.Body)
		}
	}
}

func TestInvalidEndpointAnswer(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "unexpected end",
		"no":                                     "invalid character",
		`{"status":200`:                          "unexpected end",
		`{"status":200}}`:                        "after top-level value",
		`{"status":200}{"status":200}`:           "after top-level value",
		`[]`:                                     "must be a JSON object",
		`null`:                                   "must be a JSON object",
		`{}`:                                     "status is required",
		`{"status":null}`:                        "status must be a number",
		`{"status":199}`:                         "status must be a number",
		`{"status":600}`:                         "status must be a number",
		`{"status":"200"}`:                       "status must be a number",
		`{"status":200.5}`:                       "status must be a number",
		`{"status":200,"staus":1}`:               `unknown key "staus"`,
		`{"status":200,"Body":1}`:                `unknown key "Body"`,
		`{"status":200,"status":201}`:            "duplicate key",
		`{"status":200,"body":1,"body":2}`:       "duplicate key",
		`{"status":200,"body":1,"body_text":""}`: "more than one body",
		`{"status":200,"body_base64":"","body_text":""}`:             "more than one body",
		`{"status":200,"body_text":1}`:                               "body_text: must be a string",
		`{"status":200,"body_text":null}`:                            "body_text: must be a string",
		`{"status":200,"body_base64":"a"}`:                           "body_base64: illegal base64",
		`{"status":204,"body":1}`:                                    "has no body",
		`{"status":304,"body_text":""}`:                              "has no body",
		`{"status":200,"headers":null}`:                              "headers: must be a JSON object",
		`{"status":200,"headers":{"a b":"1"}}`:                       `headers: "a b" is not a valid field name`,
		`{"status":200,"headers":{"a":"1\n"}}`:                       "is not a valid field value",
		`{"status":200,"headers":{"a":["1",2]}}`:                     "headers: a: must be a string",
		`{"status":200,"headers":{"a":1}}`:                           "headers: a: must be a string",
		`{"status":200,"headers":{"x-a":"1","X-A":"2"}}`:             "duplicate field X-A",
		`{"status":200,"headers":{"x-a":"1","x-a":"2"}}`:             "duplicate key",
		`{"status":200,"body":"` + strings.Repeat("x", 1<<20) + `"}`: "longer than 1048576 bytes",
	} {
		s := fallbacktest.Serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
		_, err := fallbacktest.Answer(t, fallbacktest.NewProcess().StartChain(t, "http", newOptions(t, s.URL)), fallbacktest.NewGET())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}

func TestFailedEndpointHasNoAnswer(t *testing.T) {
	const body = `{"status":200}`
	for name, test := range map[string]struct {
		response string
		end      fallbacktest.AfterResponse
		want     string
	}{
		"status":               {"HTTP/1.1 201 Created\r\nContent-Length: 14\r\n\r\n" + body, fallbacktest.Close, "the endpoint's status is 201"},
		"redirect":             {"HTTP/1.1 307 Temporary Redirect\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", fallbacktest.Close, "status is 307"},
		"truncated":            {"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + body, fallbacktest.Close, "unexpected EOF"},
		"malformed":            {"what\r\n\r\n", fallbacktest.Close, "malformed"},
		"no answer":            {"", fallbacktest.Close, "EOF"},
		"hangs":                {"", fallbacktest.Hang, "no response within 100ms"},
		"hangs after the head": {"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + body, fallbacktest.Hang, "no response within 100ms"},
	} {
		s := fallbacktest.ServeRaw(t, test.response, test.end)
		o := newOptions(t, s.URL)
		if test.end == fallbacktest.Hang {
			o.Timeout = 100 * time.Millisecond
		}
		_, err := fallbacktest.Answer(t, fallbacktest.NewProcess().StartChain(t, "http", o), fallbacktest.NewGET())
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if s.Requests.Load() != 1 {
			t.Errorf("%s: %d requests", name, s.Requests.Load())
		}
	}
}

func TestEndpointCallEndsWithTheClient(t *testing.T) {
	received := make(chan struct{}, 1)
	s := fallbacktest.Serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http watches the connection only after that
		received <- struct{}{}
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-received; cancel() }()
	_, _, err := fallbacktest.NewProcess().StartChain(t, "http", newOptions(t, s.URL)).Answer(ctx, fallbacktest.NewGET(), events.ReasonOpen)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestReloadKeepsConnections(t *testing.T) {
	s := fallbacktest.Serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status":200}`) })
	p := fallbacktest.NewProcess()
	get := func(c *fallbacks.Chain) {
		t.Helper()
		if _, err := fallbacktest.Answer(t, c, fallbacktest.NewGET()); err != nil {
			t.Fatal(err)
		}
	}
	first := p.NewChain(t, "http", newOptions(t, s.URL+"/a"), nil)
	first.Start()
	get(first)
	p.NewChain(t, "http", newOptions(t, s.URL), first) // never takes effect
	second := p.NewChain(t, "http", newOptions(t, s.URL+"/b"), first)
	second.Start()
	first.Close()
	get(second)
	if s.Opened.Load() != 1 || p.Pools.Load() != 1 || len(s.Closed) != 0 {
		t.Errorf("%d connections of %d pools, %d closed", s.Opened.Load(), p.Pools.Load(), len(s.Closed))
	}
	p.NewChain(t, "http", newOptions(t, "http://other"), second)
	if p.Pools.Load() != 2 {
		t.Errorf("another host uses the same pool")
	}
	second.Close()
	s.AwaitClosed(t)
}

func TestEndpointOverH2C(t *testing.T) {
	url := fallbacktest.ServeH2C(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"status":200,"body":"%s %s"}`, r.Proto, r.RequestURI)
	})
	a, err := fallbacktest.Answer(t, fallbacktest.NewProcess().StartChain(t, "http", newOptions(t, url)), fallbacktest.NewGET())
	if err != nil || string(a.Body) != `"HTTP/2.0 /"` {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestOptionsFromConfiguration(t *testing.T) {
	c, err := fallbacktest.ParseFallback("try: [http]\nhttp: {url: 'http://b:81/v1/', headers: [accept]}")
	if err != nil {
		t.Fatal(err)
	}
	o := c.Fallbacks["x_service"].Strategies["http"].(*endpoint.Options)
	if got := fmt.Sprintln(o.URL, o.Timeout, o.MaxBody, o.MaxResponse, o.Headers); got != "http://b:81/v1 1s 64KiB 1MiB [accept]\n" {
		t.Errorf("got %s", got)
	}
	for text, want := range map[string]string{
		"try: [http]": "http.url: must be given",
		"try: [http]\nhttp: {url: 'http://a', headers: [a, 'b c']}": `c.yaml:5:42: fallbacks.x_service.http.headers[1]: must be the name of a header field`,
		"try: [http]\nhttp: {url: 'http://a', timeout: 0}":          "http.timeout: must be positive",
		"try: [http]\nhttp: {url: 'http://a', tls: {}}":             "http.tls: unknown key",
	} {
		if _, err := fallbacktest.ParseFallback(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
