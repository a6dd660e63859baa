package suites

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
)

// text is the content of bodies. No two lines are equal.
var text = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	for line := 0; b.Len() < 1_000_000; line++ {
		fmt.Fprintf(&b, "%08d\n", line)
	}
	return b.Bytes()
})

// content returns a body of n bytes.
func content(n int) []byte { return text()[:n] }

// receivedField is the response header field with a description of the received body.
const receivedField = "X-Received"

// digest returns the SHA-256 hash of a body in hexadecimal.
func digest(body []byte) string { return fmt.Sprintf("%x", sha256.Sum256(body)) }

// startUpstream starts an upstream that reads the request and then responds with the number of bytes and the framing that
// the path specifies.
func startUpstream(t testing.TB) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	serve := func(framing string, respond func(w http.ResponseWriter, body []byte)) {
		mux.HandleFunc("/"+framing+"/{n}", func(w http.ResponseWriter, r *http.Request) {
			n, err := strconv.Atoi(r.PathValue("n"))
			if err != nil {
				http.Error(w, err.Error(), http.StatusNotFound)
				return
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set(receivedField, digest(body))
			respond(w, content(n))
		})
	}
	serve("known", func(w http.ResponseWriter, body []byte) { // with a Content-Length
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
	serve("stream", func(w http.ResponseWriter, body []byte) { // chunked
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write(body)
	})
	serve("close", func(w http.ResponseWriter, body []byte) { // delimited by the end of the connection
		c, buffer, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		_, _ = buffer.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n")
		_ = w.Header().Write(buffer)
		_, _ = buffer.WriteString("\r\n")
		_, _ = buffer.Write(body)
		_ = buffer.Flush()
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = bothProtocols()
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// bothProtocols are the protocols of the proxy's listener.
func bothProtocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}
