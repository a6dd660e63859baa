package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dial opens a connection on which a test writes raw requests.
func dial(t testing.TB, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, bufio.NewReader(c)
}

// openWebSocket opens a connection on which the upstream of svc has accepted an upgrade to a WebSocket.
func openWebSocket(t testing.TB, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, r := dial(t, address)
	fmt.Fprint(c, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("%v, %v", res, err)
	}
	return c, r
}

// nextResponse reads a final response and its body.
func nextResponse(t testing.TB, r *bufio.Reader) *http.Response {
	t.Helper()
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		res.Body = io.NopCloser(strings.NewReader(string(body)))
		return res
	}
}

// halfClose at the end of a request makes rawStatusLine close the connection for writing after it.
const halfClose = "<EOF>"

// rawStatusLine sends bytes on a new connection and returns the status line of the response.
func rawStatusLine(t testing.TB, address, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	request, half := strings.CutSuffix(request, halfClose)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if half {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	response, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(response), "\r\n")
	return line
}

// rawResponse sends bytes on a new connection and returns everything that is received until the end of the connection or, if
// last is not empty, until what was received contains last.
func rawResponse(t testing.TB, address, request, last string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	var received bytes.Buffer
	buffer := make([]byte, 4<<10)
	for last == "" || !strings.Contains(received.String(), last) {
		n, err := c.Read(buffer)
		received.Write(buffer[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v after %q", err, received.String())
		}
	}
	return received.String()
}

// limitReadBuffer makes c's receive buffer small, so that an upload that is not read from c blocks soon.
func limitReadBuffer(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Error(err)
	}
}
