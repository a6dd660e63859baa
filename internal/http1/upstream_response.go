package http1

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
)

// parseResponse parses the header section at the start of b and returns the response and the size of the section. It returns nil
// if the section is incomplete or the response is not plain: if it has no Content-Length, is the response to a HEAD request, or has
// anything that some recipients understand differently. The result is the same as that of http.ReadResponse, but without the body.
func parseResponse(b []byte, request *http.Request) (r *http.Response, size int) {
	end := bytes.Index(b, emptyLine)
	if end < 0 || request.Method == http.MethodHead {
		return nil, 0
	}
	head := string(b[:end+len(crlf)])
	line, fields, _ := strings.Cut(head, "\r\n")
	const version = "HTTP/1.1"
	status, ok := strings.CutPrefix(line, version+" ")
	if !ok || !isPlainStatus(status) {
		return nil, 0
	}
	code, err := strconv.Atoi(status[:3])
	if err != nil || !bodyAllowed(code) {
		return nil, 0
	}
	r = &http.Response{
		Status: status, StatusCode: code, Proto: version, ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: -1, Body: http.NoBody, Request: request,
	}
	r.Header, ok = parseFields(fields, func(name, value string) (keep, ok bool) {
		switch name {
		case "Content-Length":
			r.ContentLength, ok = parseLength(value, r.ContentLength)
			return true, ok
		case "Connection":
			return true, strings.EqualFold(value, "keep-alive")
		case "Transfer-Encoding", "Upgrade", "Trailer", "Pragma":
			return false, false
		}
		return true, true
	})
	if !ok || r.ContentLength < 0 {
		return nil, 0
	}
	return r, end + len(emptyLine)
}

// isPlainStatus reports whether s is a status code and a reason phrase (RFC 9112, section 4) in printable ASCII.
func isPlainStatus(s string) bool {
	if len(s) < 4 || s[0] < '1' || s[3] != ' ' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || i < 3 && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// responseBody is the body of a response. At its end it returns the connection to the pool. Close may be called during Read.
type responseBody struct {
	ctx    context.Context // the request's
	inner  io.Reader
	sized  sizedReader          // inner, if the response is plain
	conn   atomic.Pointer[conn] // nil: it has been returned or closed
	result error                // of all further reads
}

// Read implements io.Reader.
func (b *responseBody) Read(p []byte) (int, error) {
	if b.result != nil {
		return 0, b.result
	}
	if b.conn.Load() == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.inner.Read(p)
	if err == nil {
		return n, nil
	}
	if c := b.conn.Swap(nil); c != nil {
		if err == io.EOF {
			c.release()
		} else {
			err = causeOr(b.ctx, err)
			c.close()
		}
	}
	b.result = err
	return n, err
}

// Close closes the connection unless the body has been read to its end.
func (b *responseBody) Close() error {
	if c := b.conn.Swap(nil); c != nil {
		c.close()
	}
	return nil
}

// sizedReader reads a body of known length.
type sizedReader struct {
	reader    *bufio.Reader
	remaining int64
}

// Read implements io.Reader.
func (r *sizedReader) Read(p []byte) (int, error) {
	if r.remaining == 0 {
		return 0, io.EOF
	}
	n, err := r.reader.Read(p[:min(int64(len(p)), r.remaining)])
	r.remaining -= int64(n)
	switch {
	case r.remaining == 0:
		err = io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
