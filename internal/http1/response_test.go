package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/http1"
)

// handlers use a ResponseWriter in different ways.
var handlers = map[string]func(w http.ResponseWriter, r *http.Request){
	"nothing":  func(http.ResponseWriter, *http.Request) {},
	"a status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) },
	"a status without a text": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(599)
		w.WriteHeader(200)
	},
	"a short body": hello,
	"a body in several writes": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<!DOC")
		_, _ = io.WriteString(w, "TYPE html>")
		_, _ = w.Write(make([]byte, 4000))
	},
	"a body with a content type": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/x")
		_, _ = io.WriteString(w, "x")
	},
	"a body with a suppressed content type": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "x")
	},
	"an encoded body": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "x")
		_, _ = io.WriteString(w, "x")
	},
	"a long body": func(w http.ResponseWriter, _ *http.Request) {
		for i := range 5000 {
			_, _ = io.WriteString(w, strconv.Itoa(i))
		}
	},
	"a body of 2048 bytes": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2048)) },
	"a body of 2049 bytes": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2049)) },
	"a body in one write":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) },
	"a body of known length": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(make([]byte, 50000))
		_, _ = w.Write(make([]byte, 50000))
	},
	"a body shorter than announced": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "hello")
	},
	"a body longer than announced": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		n, err := io.WriteString(w, "abc")
		m, errMore := io.WriteString(w, "d")
		w.Header().Set("X-Late", "yes")
		if n != 3 || err != nil || m != 0 || !errors.Is(errMore, http.ErrContentLength) {
			panic("unexpected result of Write")
		}
	},
	"an announced length of 0": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "0") },
	"a flush": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, "b")
	},
	"a flush first": func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, "a")
	},
	"fields": func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["X-A"] = []string{"1", " 2\t", "3\r\nX-Evil: 4", ""}
		h["not canonical"], h["x-b"], h["Date"] = []string{"5"}, []string{"6"}, []string{"7"}
		w.WriteHeader(200)
		h.Set("X-Late", "8")
	},
	"no date":           func(w http.ResponseWriter, _ *http.Request) { w.Header()["Date"] = nil },
	"Connection: close": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") },
	"close in a list": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "x, close")
		hello(w, nil)
	},
	"no content": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Content-Type", "text/x")
		w.WriteHeader(204)
		if _, err := io.WriteString(w, "x"); err != http.ErrBodyNotAllowed {
			panic(err)
		}
	},
	"not modified": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Content-Type", "text/x")
		w.Header().Set("Etag", "x")
		w.WriteHeader(304)
	},
	"early hints": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "a")
		w.Header().Set("Content-Length", "5")
		w.WriteHeader(103)
		w.WriteHeader(103)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "hello")
	},
	"announced trailers": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-A, x-b")
		w.Header().Add("Trailer", "Content-Length")
		_, _ = io.WriteString(w, "hello")
		w.Header().Set("X-A", "1")
		w.Header().Add("X-B", "2")
		w.Header().Add("X-B", "3")
		w.Header().Set("X-C", "4")
	},
	"trailers": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
		w.(http.Flusher).Flush()
		w.Header().Set(http.TrailerPrefix+"X-A", "1")
	},
	"trailers of a short body": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(http.TrailerPrefix+"X-A", "1")
		_, _ = io.WriteString(w, "hello")
	},
	"a ResponseController": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		c := http.NewResponseController(w)
		if err := errors.Join(c.EnableFullDuplex(), c.SetReadDeadline(deadline), c.SetWriteDeadline(deadline), c.Flush()); err != nil {
			panic(err)
		}
		hello(w, r)
	},
	"an abort": func(w http.ResponseWriter, r *http.Request) {
		hello(w, r)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	},
	"an abort before the response": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	"the body of the request": func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %v %d", body, err, r.ContentLength)
	},
}

var deadline = time.Now().Add(testTimeout)

var requests = []string{
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
}

// A client gets the same response from a handler as with net/http's server.
func TestResponsesMatchNetHTTP(t *testing.T) {
	discardLog(t)
	for name, h := range handlers {
		for _, request := range requests {
			t.Run(name+" "+request[:4], func(t *testing.T) {
				netHTTP := httptest.NewServer(http.HandlerFunc(h))
				defer netHTTP.Close()
				_, ours := serve(t, h, http1.ServerConfig{})
				want := responsesTo(t, netHTTP.Listener.Addr().String(), request)
				got := responsesTo(t, ours, request)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("ours is\n%.2000s, net/http's\n%.2000s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			})
		}
	}
}

// responsesTo sends a request twice on one connection and describes the responses.
func responsesTo(t *testing.T, address, request string) (responses []string) {
	t.Helper()
	c, r := dial(t, address)
	defer c.Close()
	for range 2 {
		if _, err := io.WriteString(c, request); err != nil {
			return append(responses, "aborted: false")
		}
		for final := false; !final; {
			text, end, err := describeResponse(r, request[:4] == "HEAD")
			responses = append(responses, text)
			if err != nil {
				return responses
			}
			final = end
		}
	}
	return responses
}

// describeResponse reads one response, which may be an interim one, and describes it.
func describeResponse(r *bufio.Reader, head bool) (text string, final bool, err error) {
	method := http.MethodGet
	if head {
		method = http.MethodHead
	}
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return fmt.Sprint("aborted: ", errors.Is(err, os.ErrDeadlineExceeded)), true, err
	}
	if date := res.Header.Get("Date"); date != "" && date != "7" {
		res.Header.Set("Date", "now")
	}
	body, err := io.ReadAll(res.Body)
	var b bytes.Buffer
	fmt.Fprintln(&b, res.Status, res.ContentLength, res.TransferEncoding, res.Close, err, len(body))
	for name, values := range res.Header {
		res.Header[name] = append([]string(nil), values...)
	}
	_ = res.Header.Write(&b)
	fmt.Fprintf(&b, "%q\n", body[:min(len(body), 100)])
	_ = res.Trailer.Write(&b)
	return b.String(), res.StatusCode >= 200, err
}
