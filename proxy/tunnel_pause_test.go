package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/certtest"
)

// A tunnel stays open while an upstream reads nothing for less than idle_timeout. The write deadline that bounds closing an upstream
// connection does not apply.
func TestTunnelWaitsForAnUpstreamThatPauses(t *testing.T) {
	authority := certtest.NewAuthority(t)
	pair, err := tls.X509KeyPair(authority.Sign(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	secured := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
	ca := "tls: {ca_file: " + certtest.Write(t, t.TempDir(), "ca.pem", authority.PEM) + "}"
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than fits into all buffers on the path
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			arrived := make(chan int, 1)
			url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if scheme == "https" {
					over := tls.Server(rereadConn{c, r}, secured)
					c, r = over, bufio.NewReader(over)
				}
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				_, _ = io.WriteString(c, switchedResponse)
				<-time.After(time.Second) // the pause
				n, _ := io.CopyN(io.Discard, r, int64(len(sent)))
				arrived <- int(n)
			})
			_, address, recorded := start(t, routeConfig(strings.Replace(url, "http", scheme, 1), "idle_timeout: 60", ca))
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = io.WriteString(c, upgradeRequest+"\r\n")
			if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 101 ") {
				t.Fatalf("%q, %v", line, err)
			}
			_, err = c.Write(sent)
			if n := <-arrived; n != len(sent) {
				t.Errorf("%d of %d bytes arrived, %v", n, len(sent), err)
			}
			_ = c.Close()
			recorded.next(t)
		})
	}
}
