package upstream_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/upstream"
)

// serve starts a server of HTTP/1.1 or of HTTP/2 without TLS, and returns a pool for it and its URL.
func serve(t *testing.T, http2 bool, h http.HandlerFunc) (*upstream.Pool, string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(!http2)
	s.Config.Protocols.SetUnencryptedHTTP2(http2)
	s.Start()
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if http2 {
		u.Scheme = "h2c"
	}
	p := upstream.New(upstream.Config{URL: u})
	t.Cleanup(p.Close)
	return p, s.URL
}

// The Content-Length of a response without content is that of another response: such a body is neither too long nor truncated.
func TestLengthOfAnotherResponse(t *testing.T) {
	read := map[string]func(*upstream.Response) error{
		"ReadAll": func(res *upstream.Response) error {
			if _, err := res.ReadAll(64); err != nil {
				return err
			}
			return nil
		},
		"Discard": func(res *upstream.Response) error {
			if err := res.Discard(64 << 10); err != nil {
				return err
			}
			return nil
		},
		"Body": func(res *upstream.Response) error {
			_, err := io.ReadAll(res.Body)
			return err
		},
	}
	for _, http2 := range []bool{false, true} {
		p, url := serve(t, http2, func(w http.ResponseWriter, r *http.Request) {
			status, _ := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
			w.Header().Set("Content-Length", "99999999")
			w.WriteHeader(status)
			if r.URL.RawQuery == "flush" { // over HTTP/2 the stream ends with a frame of its own
				_ = http.NewResponseController(w).Flush()
			}
		})
		for _, test := range []struct{ method, path string }{
			{"HEAD", "/200"}, {"HEAD", "/200?flush"}, {"HEAD", "/404"}, {"HEAD", "/304"}, {"GET", "/304"}, {"GET", "/304?flush"}, {"POST", "/304"}, {"GET", "/204"},
		} {
			for name, read := range read {
				r, err := http.NewRequest(test.method, url+test.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, failed := p.Do(r, 10*time.Second, upstream.DoOptions{})
				if failed != nil {
					t.Fatal(failed)
				}
				if err := read(res); err != nil {
					t.Errorf("HTTP/2 %v, %+v, %s: %v", http2, test, name, err)
				}
				res.Close()
			}
		}
	}
}
