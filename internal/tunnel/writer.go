package tunnel

import (
	"bufio"
	"net"
	"net/http"
)

// Writer is the ResponseWriter of a request that may become a tunnel. ReverseProxy would lose what the client has sent before the
// response, and has no time limits.
type Writer struct {
	http.ResponseWriter
	// Tunnel returns the tunnel when the response switches protocols.
	Tunnel func() *Tunnel
}

// Unwrap implements the method that http.ResponseController calls.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w *Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t := w.Tunnel()
	t.attach(c)
	return &client{c, buffered.Reader, t}, buffered, nil
}

// client is the client's connection.
type client struct {
	net.Conn
	early *bufio.Reader // what the client has sent before the response
	t     *Tunnel
}

func (c *client) Read(p []byte) (int, error) {
	if n := c.early.Buffered(); n > 0 {
		return c.early.Read(p[:min(n, len(p))])
	}
	return c.Conn.Read(p)
}

func (c *client) Write(p []byte) (int, error) {
	return writeWithin(c.Conn, p, c.t.config.IdleTimeout, c.Conn.SetWriteDeadline)
}

// CloseWrite signals the end of the upstream's data to the client, which may still send.
func (c *client) CloseWrite() error { return closeWrite(c.Conn) }
