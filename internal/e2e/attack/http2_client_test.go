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

// rawHTTP2 is an HTTP/2 client that can send any frames, valid or not. One goroutine may write while another reads.
type rawHTTP2 struct {
	*http2.Framer
	t       testing.TB
	conn    net.Conn
	out     *bufio.Writer
	block   bytes.Buffer // the output of encoder
	encoder *hpack.Encoder
}

// dialHTTP2 connects to the proxy and sends the client preface and settings.
func dialHTTP2(p *harness.Proxy) *rawHTTP2 {
	p.T.Helper()
	conn, r := p.Dial()
	p.T.Cleanup(func() { _ = conn.Close() })
	c := &rawHTTP2{t: p.T, conn: conn, out: bufio.NewWriter(conn)}
	c.Framer = http2.NewFramer(c.out, r)
	c.AllowIllegalWrites = true
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encoder = hpack.NewEncoder(&c.block)
	_, _ = c.out.WriteString(http2.ClientPreface)
	_ = c.WriteSettings()
	_ = c.out.Flush()
	return c
}

// encodeFields returns a header block with the fields, which are alternating names and values.
func (c *rawHTTP2) encodeFields(fields ...string) []byte {
	c.block.Reset()
	for pair := range slices.Chunk(fields, 2) {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]})
	}
	return slices.Clone(c.block.Bytes())
}

// encodeRequest returns a header block with the pseudo-header fields of a request, and further fields.
func (c *rawHTTP2) encodeRequest(method, path string, fields ...string) []byte {
	return c.encodeFields(append([]string{":method", method, ":scheme", "http", ":authority", "x", ":path", path}, fields...)...)
}

// sendHeaders sends a HEADERS frame. A write error shows when the result of the stream is read.
func (c *rawHTTP2) sendHeaders(stream uint32, block []byte, endStream bool) {
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndStream: endStream, EndHeaders: true})
	_ = c.out.Flush()
}

// streamResult describes how a stream or its connection ended.
type streamResult struct {
	harness.Response
	complete bool           // the response has ended
	reset    *http2.ErrCode // of the RST_STREAM frame, if any
	goAway   *http2.ErrCode // of the last GOAWAY frame, if any
	closed   bool           // the connection was closed
}

func (r streamResult) String() string {
	switch {
	case r.complete:
		return fmt.Sprint(r.Status)
	case r.reset != nil:
		return "reset"
	case r.goAway != nil:
		return "goaway"
	case r.closed:
		return "closed"
	}
	return "no result"
}

// awaitResult reads frames until the stream or the connection has ended.
func (c *rawHTTP2) awaitResult(stream uint32) streamResult { return c.read(stream, true) }

// awaitResultReadOnly is like awaitResult, but does not acknowledge settings, so that another goroutine can write.
func (c *rawHTTP2) awaitResultReadOnly(stream uint32) streamResult { return c.read(stream, false) }

// read reads frames until the stream or the connection has ended. acknowledge says whether it acknowledges settings.
func (c *rawHTTP2) read(stream uint32, acknowledge bool) (result streamResult) {
	result.Header = http.Header{}
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			result.closed = true
			return result
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() && acknowledge {
				_ = c.WriteSettingsAck()
				_ = c.out.Flush()
			}
		case *http2.GoAwayFrame:
			result.goAway = &f.ErrCode
			if f.ErrCode != http2.ErrCodeNo {
				return result
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				result.reset = &f.ErrCode
				return result
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID != stream {
				continue
			}
			for _, field := range f.Fields {
				if field.Name == ":status" {
					_, _ = fmt.Sscan(field.Value, &result.Status)
					continue
				}
				result.Header.Add(field.Name, field.Value)
			}
			if f.StreamEnded() {
				result.complete = true
				return result
			}
		case *http2.DataFrame:
			if f.StreamID != stream {
				continue
			}
			result.Body += string(f.Data())
			if f.StreamEnded() {
				result.complete = true
				return result
			}
		}
	}
}
