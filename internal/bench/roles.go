package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// roles maps the first argument to the role in which this binary runs as a child process.
var roles = map[string]func(ctx context.Context, args []string) error{
	"upstream": upstream,
	"bare":     bare,
	"constant": constant,
	"receiver": receiver,
	"backlog":  backlog,
	"profile":  profile,
}

const (
	responseBytes = 1024                 // size of the body of the upstream's response
	waitSuffix    = "/wait"              // responses to paths with this suffix are delayed by waitTime
	waitTime      = 5 * time.Millisecond // long enough to keep every connection busy at the same time
)

// upstream responds with responseBytes of JSON to every request at address args[0]. At args[1] it serves the number of
// connections that it has accepted.
func upstream(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: bench upstream ADDRESS COUNTER-ADDRESS")
	}
	body := upstreamBody()
	length := []string{strconv.Itoa(len(body))}
	contentType := []string{"application/json"}
	var accepted atomic.Int64
	data := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength != 0 {
				_, _ = io.Copy(io.Discard, r.Body) // an error means that the client has disconnected
			}
			if strings.HasSuffix(r.URL.Path, waitSuffix) {
				time.Sleep(waitTime)
			}
			if strings.HasSuffix(r.URL.Path, streamSuffix) {
				serveStream(w)
				return
			}
			if strings.HasSuffix(r.URL.Path, slowSuffix) {
				serveSlowStream(w)
				return
			}
			h := w.Header()
			h["Content-Type"], h["Content-Length"] = contentType, length
			_, _ = w.Write(body)
		}),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				accepted.Add(1)
			}
		},
	}
	counter := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, accepted.Load())
	})}
	failed := make(chan error, 2)
	go func() { failed <- serve(ctx, data, args[0]) }()
	go func() { failed <- serve(ctx, counter, args[1]) }()
	return <-failed
}

// upstreamBody returns responseBytes of JSON like that of a retrieval service.
func upstreamBody() []byte {
	b := []byte(`{"linked_explanation":"","confidence_score":0.93,"retrieved_context":["`)
	end := []byte(`"]}`)
	b = append(b, bytes.Repeat([]byte("context "), responseBytes/8)...)[:responseBytes-len(end)]
	return append(b, end...)
}

// bare serves a minimal reverse proxy at address args[0] for the URL args[1]: httputil.ReverseProxy, configured for
// production.
func bare(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: bench bare ADDRESS UPSTREAM-URL")
	}
	target, err := url.Parse(args[1])
	if err != nil {
		return err
	}
	return serve(ctx, &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
		},
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 8192,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
		BufferPool: &buffers{},
	}}, args[0])
}

// buffers is a pool of buffers of the size that ReverseProxy allocates.
type buffers struct{ pool sync.Pool }

type buffer [32 << 10]byte

func (b *buffers) Get() []byte {
	if x, ok := b.pool.Get().(*buffer); ok {
		return x[:]
	}
	return make([]byte, len(buffer{}))
}

func (b *buffers) Put(x []byte) { b.pool.Put((*buffer)(x)) }

// constant responds to every request at address args[0] with the response that is stored as JSON in the file args[1].
func constant(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: bench constant ADDRESS RESPONSE.json")
	}
	file, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var a response
	if err := json.Unmarshal(file, &a); err != nil {
		return fmt.Errorf("read the response in %s: %w", args[1], err)
	}
	return serve(ctx, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		for name, values := range a.Header {
			h[name] = values
		}
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body)
	})}, args[0])
}

// serve runs s at address until ctx is done.
func serve(ctx context.Context, s *http.Server, address string) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
