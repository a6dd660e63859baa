package attack

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"cbproxy/internal/e2e/harness"
)

// rawHTTP2 is a client that says in HTTP/2 whatever it likes.
type rawHTTP2 struct {
	*http2.Framer
	t     testing.TB
	conn  net.Conn
	out   *bufio.Writer
	block bytes.Buffer
	coder *hpack.Encoder
}

func dialHTTP2(p *harness.Proxy) *rawHTTP2 {
	p.T.Helper()
	conn, r := p.Dial()
	p.T.Cleanup(func() { _ = conn.Close() })
	c := &rawHTTP2{t: p.T, conn: conn, out: bufio.NewWriter(conn)}
	c.Framer = http2.NewFramer(c.out, r)
	c.AllowIllegalWrites = true
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.coder = hpack.NewEncoder(&c.block)
	_, _ = c.out.WriteString(http2.ClientPreface)
	_ = c.WriteSettings()
	_ = c.out.Flush()
	return c
}

// fields encodes names and values, one after the other.
func (c *rawHTTP2) fields(fields ...string) []byte {
	c.block.Reset()
	for pair := range slices.Chunk(fields, 2) {
		_ = c.coder.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]})
	}
	return slices.Clone(c.block.Bytes())
}

// request is the header section of a request and more fields.
func (c *rawHTTP2) request(method, path string, more ...string) []byte {
	return c.fields(append([]string{":method", method, ":scheme", "http", ":authority", "x", ":path", path}, more...)...)
}

// begin sends a HEADERS frame.
func (c *rawHTTP2) begin(stream uint32, block []byte, end bool) {
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndStream: end, EndHeaders: true})
	_ = c.out.Flush() // what becomes of it is seen by reading
}

// ending is how a stream or its connection ended.
type ending struct {
	harness.Response
	answered bool
	reset    *http2.ErrCode
	goAway   *http2.ErrCode
	closed   bool // the connection ended, or broke
}

func (e ending) String() string {
	switch {
	case e.answered:
		return fmt.Sprint(e.Status)
	case e.reset != nil:
		return "reset"
	case e.goAway != nil:
		return "goaway"
	case e.closed:
		return "closed"
	}
	return "nothing"
}

// await reads frames until a stream has ended or no more can be said on it.
func (c *rawHTTP2) await(stream uint32) ending { return c.read(stream, true) }

// awaitQuietly is await while another goroutine writes.
func (c *rawHTTP2) awaitQuietly(stream uint32) ending { return c.read(stream, false) }

func (c *rawHTTP2) read(stream uint32, acknowledge bool) (e ending) {
	e.Header = http.Header{}
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			e.closed = true
			return e
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() && acknowledge {
				_ = c.WriteSettingsAck()
				_ = c.out.Flush()
			}
		case *http2.GoAwayFrame:
			e.goAway = &f.ErrCode
			if f.ErrCode != http2.ErrCodeNo {
				return e
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				e.reset = &f.ErrCode
				return e
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID != stream {
				continue
			}
			for _, field := range f.Fields {
				if field.Name == ":status" {
					_, _ = fmt.Sscan(field.Value, &e.Status)
					continue
				}
				e.Header.Add(field.Name, field.Value)
			}
			if f.StreamEnded() {
				e.answered = true
				return e
			}
		case *http2.DataFrame:
			if f.StreamID != stream {
				continue
			}
			e.Body += string(f.Data())
			if f.StreamEnded() {
				e.answered = true
				return e
			}
		}
	}
}
