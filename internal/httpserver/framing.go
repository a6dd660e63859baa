package httpserver

import "bytes"

// framingScanner detects in the raw bytes of a client what net/http's server does not report: whether a request has both a
// Content-Length and a Transfer-Encoding field, and whether any request has had the latter.
//
// It works line by line and does not know where a body begins or ends. It forgets what it has seen only at an empty line. A
// header section contains none, so two fields of one header section are always detected. There are false positives: a line of a
// body that looks like one of the fields counts as one. The results are never reset. A false positive only closes a connection
// that could be reused.
//
// The zero value is ready for use. It is not safe for concurrent use. The result does not depend on how the bytes are split.
type framingScanner struct {
	preface  int  // number of bytes of the HTTP/2 preface that have matched, -1 after a mismatch
	skipLine bool // ignore the rest of the current line
	prefix   [len(transferEncoding)]byte
	n        int // number of bytes in prefix: the start of the current line, in lower case

	hasLength, hasCoding bool // Content-Length, Transfer-Encoding since the last empty line

	sawTransferEncoding bool // in any header section
	ambiguous           bool // some header section has had both fields
	afterEmptyLine      bool // the last line is empty and complete: it can be the end of a header section
}

const (
	http2Preface     = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	contentLength    = "content-length:"
	transferEncoding = "transfer-encoding:"
)

// isHTTP2 reports whether the connection began with the HTTP/2 preface.
func (s *framingScanner) isHTTP2() bool { return s.preface == len(http2Preface) }

// scan processes the next bytes.
func (s *framingScanner) scan(p []byte) {
	if s.preface >= 0 {
		s.matchPreface(p)
	}
	for len(p) > 0 {
		if !s.skipLine {
			p = s.scanLineStart(p)
			continue
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			return
		}
		p = p[i+1:]
		s.skipLine = len(p) > 0 && !mayMatch(p)
	}
}

// mayMatch reports whether a line that begins with p can be empty or one of the two fields. For most lines one or two
// bytes show that it can't.
func mayMatch(p []byte) bool {
	switch p[0] {
	case 'c', 'C':
		return len(p) < len(contentLength) || p[len(contentLength)-1] == ':'
	case 't', 'T':
		return len(p) < len(transferEncoding) || p[len(transferEncoding)-1] == ':'
	case '\r', '\n':
		return true
	}
	return false
}

func (s *framingScanner) matchPreface(p []byte) {
	for _, b := range p {
		if s.isHTTP2() {
			return
		}
		if b != http2Preface[s.preface] {
			s.preface = -1
			return
		}
		s.preface++
	}
}

// scanLineStart processes bytes at the start of a line and returns those that it has not used.
func (s *framingScanner) scanLineStart(p []byte) []byte {
	if s.n == 0 && len(p) >= len(transferEncoding) && p[0] != '\r' && p[0] != '\n' {
		s.skipLine, s.afterEmptyLine = true, false // p holds enough of the line to decide
		switch {
		case hasName(p, contentLength):
			s.found(contentLength)
		case hasName(p, transferEncoding):
			s.found(transferEncoding)
		}
		return p
	}
	for i, b := range p {
		if b == '\n' {
			s.afterEmptyLine = s.n == 0 || s.n == 1 && s.prefix[0] == '\r'
			if s.afterEmptyLine {
				s.hasLength, s.hasCoding = false, false
			}
			s.n = 0
			continue
		}
		s.afterEmptyLine = false
		s.prefix[s.n] = lower(b)
		s.n++
		if s.undecided() {
			continue
		}
		s.found(string(s.prefix[:s.n]))
		s.n, s.skipLine = 0, true
		return p[i+1:]
	}
	return nil
}

func hasName(line []byte, name string) bool {
	for i := range len(name) {
		if lower(line[i]) != name[i] {
			return false
		}
	}
	return true
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b | 0x20
	}
	return b
}

// undecided reports whether the line that begins with prefix can still turn out to be one of the two fields or empty.
func (s *framingScanner) undecided() bool {
	i := s.n - 1
	switch s.prefix[0] {
	case 'c':
		return s.n < len(contentLength) && s.prefix[i] == contentLength[i]
	case 't':
		return s.n < len(transferEncoding) && s.prefix[i] == transferEncoding[i]
	case '\r':
		return s.n == 1
	}
	return false
}

func (s *framingScanner) found(name string) {
	switch name {
	case contentLength:
		s.hasLength = true
	case transferEncoding:
		s.hasCoding, s.sawTransferEncoding = true, true
	}
	if s.hasLength && s.hasCoding {
		s.ambiguous = true
	}
}
