package proxy_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"cbproxy/internal/certtest"
)

// frameConn is a connection of an HTTP/2 upstream on which a test writes frames itself. Its methods must be called by one goroutine.
type frameConn struct {
	*http2.Framer
	conn net.Conn
}

// frameUpstream calls handle for each connection of an HTTP/2 upstream, after the preface and the first SETTINGS frame, and closes
// the connection when handle returns. It returns the URL and the tls key for a route to the upstream.
func frameUpstream(t testing.TB, secured bool, handle func(n int, f *frameConn)) (url, keys string) {
	t.Helper()
	return rawHTTP2Upstream(t, secured, frameHandler(handle))
}

// frameHandler returns a function that reads the preface from a connection, writes a SETTINGS frame and calls handle.
func frameHandler(handle func(n int, f *frameConn)) func(n int, c net.Conn) {
	return func(n int, c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := &frameConn{http2.NewFramer(c, c), c}
		if f.WriteSettings() == nil {
			handle(n, f)
		}
	}
}

// rawHTTP2Upstream calls handle for each connection and closes the connection when handle returns. n is the connection's number.
func rawHTTP2Upstream(t testing.TB, secured bool, handle func(n int, c net.Conn)) (url, keys string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url, keys = "h2c://"+l.Addr().String(), "tls: {}"
	if secured {
		a := certtest.NewAuthority(t)
		pair, err := tls.X509KeyPair(a.Sign(t, "127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		url = "https://" + l.Addr().String()
		keys = "tls: {ca_file: " + certtest.Write(t, t.TempDir(), "ca.pem", a.PEM) + "}"
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}})
	}
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			go func() {
				defer c.Close()
				handle(n, c)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		defer mu.Unlock()
		for c := range open {
			_ = c.Close()
		}
	})
	return url, keys
}

// eachStream calls request with the ID of each new stream until the connection ends. It acknowledges SETTINGS and PING frames and
// keeps the connection's flow-control window open.
func (f *frameConn) eachStream(request func(stream uint32, ended bool)) {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			request(frame.StreamID, frame.StreamEnded())
		case *http2.DataFrame:
			if n := len(frame.Data()); n > 0 {
				_ = f.WriteWindowUpdate(0, uint32(n))
			}
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = f.WritePing(true, frame.Data)
			}
		}
	}
}

// respond writes a response to a stream. If body is "", the response has no body.
func (f *frameConn) respond(stream uint32, status, body string) {
	f.writeHeaders(stream, body == "", ":status", status)
	if body != "" {
		_ = f.WriteData(stream, true, []byte(body))
	}
}

// writeHeaders writes a header section. fields are alternating names and values.
func (f *frameConn) writeHeaders(stream uint32, end bool, fields ...string) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
}
