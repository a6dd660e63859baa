package stream

import "strings"

// Format is how the content of a stream differs from what only keeps the connection in use.
type Format uint8

const (
	// Bytes is the format of a stream of which every byte is content.
	Bytes Format = iota
	// Lines is newline-delimited JSON. Line ends, blank lines and the blanks at the start of a line are no content.
	Lines
	// Events are server-sent events. The content is the values of the data fields, except in events named ping. Comments, other
	// fields and line ends are no content.
	Events
)

// FormatOf returns the format of a body with a Content-Type. encoded is whether it has a Content-Encoding: the content of such a body
// can't be told apart.
func FormatOf(contentType string, encoded bool) Format {
	if encoded {
		return Bytes
	}
	mediaType, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(mediaType)) {
	case "text/event-stream":
		return Events
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl", "application/jsonlines", "application/x-jsonlines":
		return Lines
	}
	return Bytes
}

// content counts the content of a stream. What it returns depends only on the bytes so far, not on how they are split into calls of
// add. It buffers a few bytes.
type content struct {
	format Format
	begun  bool  // there was a first byte, or for Events a first event
	count  int64 // for Events, of complete events
	inLine bool  // for Lines: the current line has content
	events eventStream
}

// add processes the next bytes of the stream.
func (c *content) add(p []byte) {
	if c.format == Events {
		c.events.add(p)
		c.begun = c.events.begun
		return
	}
	c.begun = c.begun || len(p) > 0
	if c.format == Bytes {
		c.count += int64(len(p))
		return
	}
	for _, b := range p {
		switch {
		case b == '\n', b == '\r':
			c.inLine = false
		case c.inLine, b != ' ' && b != '\t':
			c.inLine = true
			c.count++
		}
	}
}

// total returns the bytes of content so far. It may decrease when an event that is still incomplete turns out to be a ping.
func (c *content) total() int64 {
	if c.format == Events {
		return c.events.total()
	}
	return c.count
}
