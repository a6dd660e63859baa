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

// An HTTP/2 upstream responds or fails while the client has paused its upload. http.Transport reports that only after it has stopped
// reading the client's body.
func TestHTTP2ResponseDuringAPausedUploadIsForwarded(t *testing.T) {
	respond := func(status int, body string) func(*httptest.Server, http.ResponseWriter, *http.Request) {
		return func(_ *httptest.Server, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	beginResponse := func(w http.ResponseWriter) {
		_, _ = io.WriteString(w, "hello")
		_ = http.NewResponseController(w).Flush()
	}
	closeConnections := func(s *httptest.Server, r *http.Request) {
		_, _ = r.Body.Read(make([]byte, 1))
		go s.CloseClientConnections() // waits for this handler
		<-r.Context().Done()
	}
	long := strings.Repeat("x", 200_000)
	for name, c := range map[string]struct {
		upstream  func(*httptest.Server, http.ResponseWriter, *http.Request)
		status    int
		body      string // "": the proxy generates the response
		truncated bool
		result    events.Result
	}{
		"short response":    {respond(413, "large"), 413, "large", false, events.ResultSuccess},
		"long response":     {respond(413, long), 413, long, false, events.ResultSuccess},
		"failure status":    {respond(503, "busy"), 503, "busy", false, events.ResultFailure},
		"connection closed": {func(s *httptest.Server, _ http.ResponseWriter, r *http.Request) { closeConnections(s, r) }, 502, "", false, events.ResultFailure},
		"stream reset":      {func(*httptest.Server, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, "", false, events.ResultFailure},
		"connection closed in the response": {func(s *httptest.Server, w http.ResponseWriter, r *http.Request) {
			beginResponse(w)
			closeConnections(s, r)
		}, 200, "hello", true, events.ResultFailure},
		"stream reset in the response": {func(_ *httptest.Server, w http.ResponseWriter, _ *http.Request) {
			beginResponse(w)
			panic(http.ErrAbortHandler)
		}, 200, "hello", true, events.ResultFailure},
	} {
		for _, keys := range []string{"", "retry: {attempts: 2, budget: 1}"} {
			for version, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": h2cClient(t)} {
				t.Run(version+", "+name+", "+keys, func(t *testing.T) {
					t.Parallel()
					var s *httptest.Server
					s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.upstream(s, w, r) }))
					s.Config.Protocols = new(http.Protocols)
					s.Config.Protocols.SetUnencryptedHTTP2(true)
					s.Start()
					defer s.Close()
					_, address, recorded := start(t, routeConfig(strings.Replace(s.URL, "http:", "h2c:", 1), "timeout: 60s", "idle_timeout: 60s", keys))
					paused, upload := io.Pipe()
					go func() { _, _ = upload.Write([]byte("x")) }() // the rest of the body is never sent
					defer upload.Close()
					r, _ := http.NewRequest(http.MethodPut, "http://"+address+"/svc", paused)
					res, err := client.Do(r)
					if err != nil && name == "connection closed in the response" && version == "HTTP/2" {
						return // the client may see the stream's reset before the header section
					} else if err != nil {
						t.Fatal(err)
					}
					defer res.Body.Close()
					body, err := io.ReadAll(res.Body)
					if name == "connection closed in the response" && (res.StatusCode == 502 || err != nil && strings.HasPrefix(c.body, string(body))) {
						return // the close may discard response data that the proxy has not read
					}
					o := recorded.next(t)
					if res.StatusCode == http.StatusRequestTimeout && o.Duration >= 500*time.Millisecond {
						return // on a busy machine retries may take so long that the client counts as too slow
					}
					if res.StatusCode != c.status || c.body != "" && string(body) != c.body || (err != nil) != c.truncated {
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

// An upload to an HTTP/2 upstream that the client aborts counts neither as success nor as failure of the upstream.
func TestClientAbortDuringUploadToHTTP2RecordsNoFailure(t *testing.T) {
	arrived := make(chan struct{}, 1)
	url := h2cUpstream(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	for version, transport := range map[string]http.RoundTripper{"HTTP/1.1": &http.Transport{}, "HTTP/2": h2cClient(t).Transport} {
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
			<-arrived
			_ = upload.CloseWithError(io.ErrClosedPipe) // makes the client abort the request
			<-done
			if o := recorded.next(t); o.Result != events.ResultCancelled {
				t.Errorf("%s: %+v %+v", version, o, o.Failure)
			}
		}
	}
}
