package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// h2cClient returns a client that uses HTTP/2 without TLS.
func h2cClient(t testing.TB) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// Trailers of requests and responses are forwarded with HTTP/1.1 and HTTP/2 on both sides.
func TestTrailersAreForwarded(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Announced")
		fmt.Fprintf(w, "%s %s", body, r.Trailer.Get("Up"))
		_ = http.NewResponseController(w).Flush()
		w.Header().Set("Announced", "yes")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	})
	plain := httptest.NewServer(handler)
	defer plain.Close()
	both := httptest.NewUnstartedServer(handler)
	both.Config.Protocols = new(http.Protocols)
	both.Config.Protocols.SetUnencryptedHTTP2(true)
	both.Start()
	defer both.Close()
	for _, upstream := range []string{plain.URL, strings.Replace(both.URL, "http:", "h2c:", 1)} {
		_, address, _ := start(t, routeConfig(upstream))
		for name, client := range map[string]*http.Client{"HTTP/1.1": http.DefaultClient, "HTTP/2": h2cClient(t)} {
			r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", io.MultiReader(strings.NewReader("hello")))
			r.Trailer = http.Header{"Up": {"trailer"}}
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || string(body) != "hello trailer" || res.Trailer.Get("Announced") != "yes" || res.Trailer.Get("Grpc-Status") != "0" {
				t.Errorf("%s to %.4s: %q, %v, trailers %v", name, upstream, body, err, res.Trailer)
			}
		}
	}
}

// Errors of HTTP/2 clients and timeouts of their requests are classified as with HTTP/1.1.
func TestHTTP2ClientErrorsAndTimeouts(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	}))
	defer upstream.Close()
	_, address, recorded := start(t, "limits: {body_bytes: 64KiB}\n"+routeConfig(upstream.URL, "timeout: 0.5", "breaker: {fail_max: 1}"))
	client := h2cClient(t)
	large := make([]byte, 1<<20)
	for name, body := range map[string]io.Reader{
		"known length":   bytes.NewReader(large),
		"unknown length": io.MultiReader(bytes.NewReader(large)),
	} {
		res, err := client.Post("http://"+address+"/svc", "text/plain", body)
		if err != nil || res.StatusCode != 413 {
			t.Errorf("%s: %v, %v", name, res, err)
		}
		if o := recorded.next(t); o.Result != events.ResultCancelled {
			t.Errorf("%s: %+v", name, o)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/svc/hang", nil)
	if _, err := client.Do(r); err == nil {
		t.Error("the request was not cancelled")
	}
	if o := recorded.next(t); o.Result != events.ResultCancelled {
		t.Errorf("a cancelled request: %+v", o)
	}
	res, err := client.Get("http://" + address + "/svc/hang")
	if err != nil || res.StatusCode != 504 {
		t.Errorf("%v, %v", res, err)
	}
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorTimeout {
		t.Errorf("an upstream that does not respond: %+v", o)
	}
}
