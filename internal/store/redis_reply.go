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

// replyScanner checks the framing of a Redis connection, RESP2 or RESP3, in pieces of any size. It allocates only for a form of whole
// replies. The client library allocates what the header of an array, map or string declares before it reads the content, and recurses
// for each level, so that each header must be checked first.
type replyScanner struct {
	limit func() int64 // the largest size of a reply in bytes

	kind     byte  // of the line that is being read; 0 before its first byte
	length   int   // bytes of that line so far
	cr       bool  // its last byte is a carriage return
	declared int64 // the number in the header line so far
	digits   int
	negative bool
	payload  int64 // remaining bytes of a string, with its line end

	// The reply that is being read.
	open       [maxReplyDepth]openAggregate
	depth      int
	elements   int64
	bytes      int64
	attributes int

	replyComplete bool        // whether it has ended
	schema        replySchema // the required form
	reply         []byte      // its bytes so far, for a form of whole replies
}

// openAggregate is an aggregate such as an array or a map with unread elements.
type openAggregate struct {
	remaining int64 // elements
	attribute bool  // it precedes a value and does not count as one
}

// scan scans p up to the end of a reply and returns the number of bytes it has scanned. After an error the scanner must not be used.
func (s *replyScanner) scan(p []byte) (read int, err error) {
	if s.schema.mustBuffer() && len(s.reply) == 0 && s.insideReply() {
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
	s.reply = append(s.reply, p[:read]...)
	if s.replyComplete {
		err = s.schema.check(s.reply)
		s.reply = nil
	}
	return read, err
}

// within reports whether a reply has begun and not ended.
func (s *replyScanner) insideReply() bool { return s.depth > 0 || s.kind != 0 || s.payload > 0 }

// step scans a part of a line or of a string.
func (s *replyScanner) step(p []byte) (n int, err error) {
	switch {
	case s.payload > 0:
		n = int(min(s.payload, int64(len(p))))
		if s.payload -= int64(n); s.payload == 0 {
			s.endValue()
		}
		return n, nil
	case s.kind == 0:
		return 1, s.beginLine(p[0])
	case isHeader(s.kind):
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
	case s.schema == helloSchema && s.depth > 0 && bytes.IndexByte([]byte("-_!"), kind) >= 0:
		return errSchema
	}
	s.kind, s.length, s.cr, s.declared, s.digits, s.negative = kind, 0, false, 0, 0, false
	return nil
}

// scanLine scans a value that is a single line.
func (s *replyScanner) scanLine(p []byte) (n int, err error) {
	end := bytes.IndexByte(p, '\n')
	text := p
	if end >= 0 {
		text = p[:end]
	}
	if s.length += len(text); s.length > maxReplyLine {
		return 0, fmt.Errorf("a reply has a line of more than %d bytes", maxReplyLine)
	}
	if len(text) > 0 {
		s.cr = text[len(text)-1] == '\r'
	}
	if end < 0 {
		return len(p), nil
	}
	if !s.cr {
		return 0, errLineEnd
	}
	s.kind = 0
	if err := s.addBytes(int64(s.length)); err != nil {
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
		case b == '\n' && s.cr:
			s.negative = s.negative && s.declared == 1
			kind := s.kind
			s.kind = 0
			return i + 1, s.endHeader(kind)
		case s.cr:
			return 0, errLength
		case b == '\r' && s.digits > 0 && (!s.negative || s.declared == 1):
			s.cr = true
		case b == '-' && s.digits == 0 && !s.negative:
			s.negative = true
		case b >= '0' && b <= '9' && s.digits < maxLengthDigits:
			s.declared = 10*s.declared + int64(b-'0')
			s.digits++
		default:
			return 0, errLength
		}
	}
	return len(p), nil
}

// endHeader checks a header line before the client sees its end.
func (s *replyScanner) endHeader(kind byte) error {
	switch {
	case s.negative && s.schema == helloSchema && s.depth > 0:
		return errSchema
	case s.negative:
		s.endValue()
		return nil
	case isString(kind):
		s.payload = s.declared + 2
		return s.addBytes(s.declared)
	}
	elements := s.declared
	if kind == '%' || kind == '|' {
		elements *= 2
	}
	if s.elements += elements; s.elements > maxReplyElements {
		return fmt.Errorf("a reply declares %d elements, more than %d", s.elements, maxReplyElements)
	}
	attribute := kind == '|'
	if attribute {
		if s.attributes++; s.attributes > maxReplyDepth {
			return fmt.Errorf("a reply has more than %d attributes", maxReplyDepth)
		}
	}
	switch {
	case elements > 0 && s.depth == maxReplyDepth:
		return fmt.Errorf("a reply nests more than %d levels", maxReplyDepth)
	case elements > 0:
		s.open[s.depth] = openAggregate{elements, attribute}
		s.depth++
	case !attribute:
		s.endValue()
	}
	return nil
}

func (s *replyScanner) addBytes(n int64) error {
	s.bytes += n
	if s.bytes <= minReplyLimit {
		return nil
	}
	if limit := max(minReplyLimit, s.limit()); s.bytes > limit {
		return fmt.Errorf("a reply has %d bytes, more than %d", s.bytes, limit)
	}
	return nil
}

// endValue counts a complete value and the aggregates that it completes.
func (s *replyScanner) endValue() {
	for s.depth > 0 {
		last := &s.open[s.depth-1]
		if last.remaining--; last.remaining > 0 {
			return
		}
		s.depth--
		if last.attribute {
			return
		}
	}
	s.elements, s.bytes, s.attributes, s.replyComplete = 0, 0, 0, true
}
