package store

import (
	"bytes"
	"errors"
	"fmt"
)

// Limits of one reply with everything nested in it. The longest reply that is needed, a cluster's to COMMAND, has about ten thousand
// elements in eight levels.
const (
	maxReplyElements = 1 << 17
	maxReplyDepth    = 16
	maxReplyLine     = 64 << 10 // of a status, an error or a number
	minReplyLimit    = 8 << 20  // bytes; see RedisConfig.LargestBody
)

// replyScanner checks the framing of a Redis connection, RESP2 or RESP3, in pieces of any size. It allocates only if schema.mustBuffer. The
// client library allocates what the header of an array, map or string declares before it reads the content, and recurses for each level,
// so that each header must be checked first.
type replyScanner struct {
	limit  func() int64 // the largest size of a reply in bytes
	schema replySchema  // the required schema of the next reply

	line          replyLine // the line that is being read
	payload       int64     // remaining bytes of a string, with its line end
	reply         openReply // the reply that is being read
	replyComplete bool      // the last scan has reached its end
	buffer        []byte    // its bytes so far, if schema.mustBuffer
}

// replyLine is the read part of a line.
type replyLine struct {
	kind   byte // 0 before the first byte of a line
	length int  // bytes so far
	cr     bool // the last byte is a carriage return

	// Of a line that declares a length:
	declared int64 // the number so far
	digits   int
	negative bool
}

// openReply is the state of a reply that has begun.
type openReply struct {
	open       [maxReplyDepth]openAggregate // the first depth of them
	depth      int
	elements   int64
	bytes      int64
	attributes int
}

// openAggregate is an aggregate such as an array or a map with unread elements.
type openAggregate struct {
	remaining int64 // elements
	attribute bool  // it precedes a value and does not count as one
}

// scan scans p up to the end of a reply and returns the number of bytes it has scanned. After an error the scanner must not be used.
func (s *replyScanner) scan(p []byte) (read int, err error) {
	if s.schema.mustBuffer() && len(s.buffer) == 0 && s.insideReply() {
		return 0, errSchema // the reply began before its command
	}
	for s.replyComplete = false; read < len(p) && !s.replyComplete; {
		n, err := s.step(p[read:])
		if err != nil {
			return 0, err
		}
		read += n
	}
	if !s.schema.mustBuffer() {
		return read, nil
	}
	s.buffer = append(s.buffer, p[:read]...)
	if s.replyComplete {
		err = s.schema.check(s.buffer)
		s.buffer = nil
	}
	return read, err
}

// insideReply reports whether a reply has begun and not ended.
func (s *replyScanner) insideReply() bool {
	return s.reply.depth > 0 || s.line.kind != 0 || s.payload > 0
}

// step scans a part of a line or of a string.
func (s *replyScanner) step(p []byte) (n int, err error) {
	switch {
	case s.payload > 0:
		n = int(min(s.payload, int64(len(p))))
		if s.payload -= int64(n); s.payload == 0 {
			s.endValue()
		}
		return n, nil
	case s.line.kind == 0:
		return 1, s.beginLine(p[0])
	case isHeader(s.line.kind):
		return s.scanHeader(p)
	}
	return s.scanLine(p)
}

func isString(kind byte) bool    { return kind == '$' || kind == '=' || kind == '!' }
func isAggregate(kind byte) bool { return bytes.IndexByte([]byte("*~>%|"), kind) >= 0 }
func isHeader(kind byte) bool    { return isString(kind) || isAggregate(kind) }

func (s *replyScanner) beginLine(kind byte) error {
	switch {
	case !isHeader(kind) && bytes.IndexByte([]byte("+-:_,#("), kind) < 0:
		return fmt.Errorf("a reply has the unknown type %q", kind)
	case s.schema == helloSchema && s.reply.depth > 0 && bytes.IndexByte([]byte("-_!"), kind) >= 0:
		return errSchema
	}
	s.line = replyLine{kind: kind}
	return nil
}

// scanLine scans a value that is a single line.
func (s *replyScanner) scanLine(p []byte) (n int, err error) {
	end := bytes.IndexByte(p, '\n')
	text := p
	if end >= 0 {
		text = p[:end]
	}
	if s.line.length += len(text); s.line.length > maxReplyLine {
		return 0, fmt.Errorf("a reply has a line of more than %d bytes", maxReplyLine)
	}
	if len(text) > 0 {
		s.line.cr = text[len(text)-1] == '\r'
	}
	if end < 0 {
		return len(p), nil
	}
	if !s.line.cr {
		return 0, errLineEnd
	}
	s.line.kind = 0
	if err := s.addBytes(int64(s.line.length)); err != nil {
		return 0, err
	}
	s.endValue()
	return end + 1, nil
}

var (
	errLineEnd = errors.New("a line of a reply ends without a carriage return")
	errLength  = errors.New("a reply declares an invalid length")
)

// maxLengthDigits ensures that twice a declared length plus a line end fits into an int64.
const maxLengthDigits = 18

// scanHeader scans a line that declares a length: digits, or -1 for null.
func (s *replyScanner) scanHeader(p []byte) (n int, err error) {
	for i, b := range p {
		switch {
		case b == '\n' && s.line.cr:
			s.line.negative = s.line.negative && s.line.declared == 1
			kind := s.line.kind
			s.line.kind = 0
			return i + 1, s.endHeader(kind)
		case s.line.cr:
			return 0, errLength
		case b == '\r' && s.line.digits > 0 && (!s.line.negative || s.line.declared == 1):
			s.line.cr = true
		case b == '-' && s.line.digits == 0 && !s.line.negative:
			s.line.negative = true
		case b >= '0' && b <= '9' && s.line.digits < maxLengthDigits:
			s.line.declared = 10*s.line.declared + int64(b-'0')
			s.line.digits++
		default:
			return 0, errLength
		}
	}
	return len(p), nil
}

// endHeader checks a header line before the client sees its end.
func (s *replyScanner) endHeader(kind byte) error {
	switch {
	case s.line.negative && s.schema == helloSchema && s.reply.depth > 0:
		return errSchema
	case s.line.negative:
		s.endValue()
		return nil
	case isString(kind):
		s.payload = s.line.declared + 2
		return s.addBytes(s.line.declared)
	}
	elements := s.line.declared
	if kind == '%' || kind == '|' {
		elements *= 2
	}
	if s.reply.elements += elements; s.reply.elements > maxReplyElements {
		return fmt.Errorf("a reply declares %d elements, more than %d", s.reply.elements, maxReplyElements)
	}
	attribute := kind == '|'
	if attribute {
		if s.reply.attributes++; s.reply.attributes > maxReplyDepth {
			return fmt.Errorf("a reply has more than %d attributes", maxReplyDepth)
		}
	}
	switch {
	case elements > 0 && s.reply.depth == maxReplyDepth:
		return fmt.Errorf("a reply nests more than %d levels", maxReplyDepth)
	case elements > 0:
		s.reply.open[s.reply.depth] = openAggregate{elements, attribute}
		s.reply.depth++
	case !attribute:
		s.endValue()
	}
	return nil
}

func (s *replyScanner) addBytes(n int64) error {
	s.reply.bytes += n
	if s.reply.bytes <= minReplyLimit {
		return nil
	}
	if limit := max(minReplyLimit, s.limit()); s.reply.bytes > limit {
		return fmt.Errorf("a reply has %d bytes, more than %d", s.reply.bytes, limit)
	}
	return nil
}

// endValue counts a complete value and the aggregates that it completes.
func (s *replyScanner) endValue() {
	for s.reply.depth > 0 {
		last := &s.reply.open[s.reply.depth-1]
		if last.remaining--; last.remaining > 0 {
			return
		}
		s.reply.depth--
		if last.attribute {
			return
		}
	}
	s.reply.elements, s.reply.bytes, s.reply.attributes, s.replyComplete = 0, 0, 0, true // depth is 0 already
}
