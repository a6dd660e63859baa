package stream

import "bytes"

// The parts of a line of an event stream.
const (
	inField = iota // the name of the field
	inData         // the value of a field data
	inName         // the value of a field event
	inOther        // the rest of any other line
)

var (
	dataField  = []byte("data")
	eventField = []byte("event")
	pingName   = []byte("ping")
	utf8BOM    = []byte("\xEF\xBB\xBF")
)

// maxPing is the largest data of an event, in bytes, that is not yet taken for the first event of a stream while the event is
// incomplete: its name may follow.
const maxPing = 1 << 10

// eventStream counts the content of a stream of server-sent events, parsed as in
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream.
type eventStream struct {
	begun    bool  // an event with data is complete, or has more data than maxPing, and is no ping
	complete int64 // the bytes of data of complete events that are no pings

	// The current event.
	data int64 // bytes of data
	ping bool  // its name is ping

	// The current line.
	part       uint8                                    // of the line
	text       [len("\xEF\xBB\xBF") + len("event")]byte // the start of the field's name, or of the event's name
	length     int                                      // of text
	overflow   bool                                     // the name is longer than text
	valueStart bool                                     // the next byte is the first of the value
	afterCR    bool                                     // the last byte was a CR, and a following LF belongs to the same line end
	afterBOM   bool                                     // the first line of the stream is complete: no byte order mark may follow
}

// add processes the next bytes of the stream.
func (e *eventStream) add(p []byte) {
	for len(p) > 0 {
		if e.afterCR && p[0] == '\n' {
			p = p[1:]
			e.afterCR = false
			continue
		}
		e.afterCR = false
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			e.addToLine(p)
			return
		}
		e.addToLine(p[:i])
		e.endLine()
		e.afterCR = p[i] == '\r'
		p = p[i+1:]
	}
}

// addToLine processes bytes that end no line.
func (e *eventStream) addToLine(p []byte) {
	if e.part == inField {
		i := bytes.IndexByte(p, ':')
		if i < 0 {
			e.addText(p)
			return
		}
		e.addText(p[:i])
		e.endField()
		p = p[i+1:]
	}
	if e.valueStart && len(p) > 0 {
		e.valueStart = false
		p = bytes.TrimPrefix(p, []byte(" ")) // which does not belong to the value
	}
	switch e.part {
	case inData:
		e.data += int64(len(p))
		e.begun = e.begun || e.data > maxPing && !e.ping
	case inName:
		e.addText(p)
	}
}

// addText collects the start of a name.
func (e *eventStream) addText(p []byte) {
	n := copy(e.text[e.length:], p)
	e.length += n
	e.overflow = e.overflow || n < len(p)
}

// takeText returns what addText has collected, nil if that is too long to be of interest.
func (e *eventStream) takeText() []byte {
	text := e.text[:e.length]
	if e.overflow {
		text = nil
	}
	e.length, e.overflow = 0, false
	return text
}

// fieldName returns the name of the current line's field, which is complete. It is empty for a comment and a blank line, and nil if it is
// long.
func (e *eventStream) fieldName() []byte {
	name := e.takeText()
	if !e.afterBOM {
		name = bytes.TrimPrefix(name, utf8BOM)
	}
	return name
}

// endField is called at the colon after the name of a field.
func (e *eventStream) endField() {
	e.part, e.valueStart = inOther, true
	switch name := e.fieldName(); {
	case bytes.Equal(name, dataField):
		e.part = inData
	case bytes.Equal(name, eventField):
		e.part = inName
	}
}

// endLine is called at the end of a line. An empty line ends the event.
func (e *eventStream) endLine() {
	switch e.part {
	case inName:
		e.ping = bytes.Equal(e.takeText(), pingName)
	case inField:
		long := e.overflow
		switch name := e.fieldName(); {
		case len(name) == 0 && !long:
			e.endEvent()
		case bytes.Equal(name, eventField): // without a value
			e.ping = false
		}
	}
	e.part, e.valueStart, e.afterBOM = inField, false, true
}

func (e *eventStream) endEvent() {
	e.complete = e.total()
	e.begun = e.begun || e.data > 0 && !e.ping
	e.data, e.ping = 0, false
}

// total returns the bytes of content so far, with those of the current event unless it is a ping so far.
func (e *eventStream) total() int64 {
	if e.ping {
		return e.complete
	}
	return e.complete + e.data
}
