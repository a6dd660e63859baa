package proxy

import "bytes"

// headScanner finds out, from the raw bytes that a client sends, what net/http's server
// keeps to itself: whether a request had both a Content-Length and a Transfer-Encoding
// field, and whether any had the latter. It knows lines, and not where a body begins and
// ends: a body may look like a header section, but no header section is overlooked, because
// none has an empty line within. What it has found stays: in doubt a connection is closed.
//
// The zero headScanner is ready. It is not safe for concurrent use, and gives the same
// verdict however the bytes are split.
type headScanner struct {
	preface int  // how many bytes of the HTTP/2 preface have come, -1 if something else has
	middle  bool // of a line, so that nothing counts until the next
	name    [len(transferEncoding)]byte
	n       int // how many bytes of a line that may count are in name

	length, coding bool // Content-Length, Transfer-Encoding since the last empty line

	codings   bool // a Transfer-Encoding has been seen
	ambiguous bool // both have been, in one header section
}

const (
	http2Preface     = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	contentLength    = "content-length:"
	transferEncoding = "transfer-encoding:"
)

// http2 reports whether the connection began with the preface of HTTP/2.
func (s *headScanner) http2() bool { return s.preface == len(http2Preface) }

// scan takes the bytes that have come next.
func (s *headScanner) scan(p []byte) {
	if s.preface >= 0 {
		s.matchPreface(p)
	}
	for len(p) > 0 {
		if !s.middle {
			p = s.begin(p)
			continue
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			return
		}
		p = p[i+1:]
		s.middle = len(p) > 0 && !mayCount(p)
	}
}

// mayCount reports whether a line that begins with p may count. Most lines tell by a byte or
// two that they don't.
func mayCount(p []byte) bool {
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

func (s *headScanner) matchPreface(p []byte) {
	for _, b := range p {
		if s.http2() {
			return
		}
		if b != http2Preface[s.preface] {
			s.preface = -1
			return
		}
		s.preface++
	}
}

// begin takes bytes of a line's beginning and returns what it has no use for.
func (s *headScanner) begin(p []byte) []byte {
	if s.n == 0 && len(p) >= len(transferEncoding) && p[0] != '\r' && p[0] != '\n' {
		s.middle = true // whatever it is, all of it is here
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
			if s.n == 0 || s.n == 1 && s.name[0] == '\r' {
				s.length, s.coding = false, false
			}
			s.n = 0
			continue
		}
		s.name[s.n] = lower(b)
		s.n++
		if s.undecided() {
			continue
		}
		s.found(string(s.name[:s.n]))
		s.n, s.middle = 0, true
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

// undecided reports whether what has come of a line may still become a name or an empty
// line.
func (s *headScanner) undecided() bool {
	i := s.n - 1
	switch s.name[0] {
	case 'c':
		return s.n < len(contentLength) && s.name[i] == contentLength[i]
	case 't':
		return s.n < len(transferEncoding) && s.name[i] == transferEncoding[i]
	case '\r':
		return s.n == 1
	}
	return false
}

func (s *headScanner) found(name string) {
	switch name {
	case contentLength:
		s.length = true
	case transferEncoding:
		s.coding, s.codings = true, true
	}
	if s.length && s.coding {
		s.ambiguous = true
	}
}
