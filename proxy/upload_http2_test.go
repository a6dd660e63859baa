package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// An upstream over HTTP/2 that answers, or dies, while the client has paused its upload:
// http.Transport tells of it only once it has stopped reading the client's body.
func TestHTTP2ResponseDuringAPausedUploadIsForwarded(t *testing.T) {
	answers := func(status int, body string) func(*httptest.Server, http.ResponseWriter, *http.Request) {
		return func(_ *httptest.Server, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	begins := func(w http.ResponseWriter) {
		_, _ = io.WriteString(w, "hello")
		_ = http.NewResponseController(w).Flush()
	}
	dies := func(s *httptest.Server, r *http.Request) {
		_, _ = r.Body.Read(make([]byte, 1))
		go s.CloseClientConnections() // which waits for this handler
		<-r.Context().Done()
	}
	long := strings.Repeat("x", 200_000)
	for name, c := range map[string]struct {
		upstream func(*httptest.Server, http.ResponseWriter, *http.Request)
		status   int
		body     string // "" is the proxy's own
		cut      bool
		result   events.Result
	}{
		"a short answer":     {answers(413, "large"), 413, "large", false, events.ResultSuccess},
		"a long answer":      {answers(413, long), 413, long, false, events.ResultSuccess},
		"a failure":          {answers(503, "busy"), 503, "busy", false, events.ResultFailure},
		"death":              {func(s *httptest.Server, _ http.ResponseWriter, r *http.Request) { dies(s, r) }, 502, "", false, events.ResultFailure},
		"a reset":            {func(*httptest.Server, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, "", false, events.ResultFailure},
		"death in an answer": {func(s *httptest.Server, w http.ResponseWriter, r *http.Request) { begins(w); dies(s, r) }, 200, "hello", true, events.ResultFailure},
		"a reset in a stream": {func(_ *httptest.Server, w http.ResponseWriter, _ *http.Request) {
			begins(w)
			panic(http.ErrAbortHandler)
		}, 200, "hello", true, events.ResultFailure},
	} {
		for _, keys := range []string{"", "retry: {attempts: 2, budget: 1}"} {
			for front, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": h2cClient(t)} {
				t.Run(front+", "+name+", "+keys, func(t *testing.T) {
					t.Parallel()
					var s *httptest.Server
					s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.upstream(s, w, r) }))
					s.Config.Protocols = new(http.Protocols)
					s.Config.Protocols.SetUnencryptedHTTP2(true)
					s.Start()
					defer s.Close()
					_, address, recorded := start(t, routeConfig(strings.Replace(s.URL, "http:", "h2c:", 1), "timeout: 60s", "idle_timeout: 60s", keys))
					paused, upload := io.Pipe()
					go func() { _, _ = upload.Write([]byte("x")) }() // and no more
					defer upload.Close()
					r, _ := http.NewRequest(http.MethodPut, "http://"+address+"/svc", paused)
					res, err := client.Do(r)
					if err != nil && name == "death in an answer" && front == "HTTP/2" {
						return // a reset may overtake the header section
					} else if err != nil {
						t.Fatal(err)
					}
					defer res.Body.Close()
					body, err := io.ReadAll(res.Body)
					if name == "death in an answer" && (res.StatusCode == 502 || err != nil && strings.HasPrefix(c.body, string(body))) {
						return // its last words were lost with it, all or some
					}
					o := recorded.next(t)
					if res.StatusCode == http.StatusRequestTimeout && o.Duration >= 500*time.Millisecond {
						return // on a busy machine the retries took so long that the client was the slow one by then
					}
					if res.StatusCode != c.status || c.body != "" && string(body) != c.body || (err != nil) != c.cut {
						t.Errorf("status %d, %d bytes, %v; %+v %+v", res.StatusCode, len(body), err, o, o.Failure)
					}
					if o.Result != c.result || o.Duration > 20*time.Second {
						t.Errorf("%+v %+v", o, o.Failure)
					}
				})
			}
		}
	}
}

// Such an upload that its client aborts counts neither as success nor as failure of the upstream.
func TestClientAbortDuringUploadToHTTP2RecordsNoFailure(t *testing.T) {
	came := make(chan struct{}, 1)
	url := h2cUpstream(t, func(_ http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	for front, transport := range map[string]http.RoundTripper{"HTTP/1.1": &http.Transport{}, "HTTP/2": h2cClient(t).Transport} {
		_, address, recorded := start(t, routeConfig(url, "timeout: 60s", "breaker: {fail_max: 1}"))
		for range 10 {
			paused, upload := io.Pipe()
			go func() { _, _ = upload.Write([]byte("x")) }()
			r, _ := http.NewRequest(http.MethodPut, "http://"+address+"/svc", paused)
			client := &http.Client{Transport: transport}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if res, err := client.Do(r); err == nil {
					_ = res.Body.Close()
				}
			}()
			<-came
			_ = upload.CloseWithError(io.ErrClosedPipe) // makes the client give up
			<-done
			if o := recorded.next(t); o.Result != events.ResultCancelled {
				t.Errorf("%s: %+v %+v", front, o, o.Failure)
			}
		}
	}
}
