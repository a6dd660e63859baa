package queue

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"cbproxy/internal/events"
)

// Message is a request that waits for its upstream.
type Message struct {
	Method string
	Host   string
	// Path is the raw path as the client wrote it, and Rest what of it goes upstream.
	Path string
	Rest string
	// Query is raw, without its question mark. EmptyQuery tells a target that ends with the question mark
	// from one without it.
	Query      string
	EmptyQuery bool
	// Header has no field that concerns the client's connection. It has an Idempotency-Key.
	Header http.Header
	Body   []byte
	// Reason is why it could not be sent at once; it is not kept.
	Reason events.Reason
	// Suspect is whether another failure says nothing about the upstream, save that there is no
	// connection. It is set for a Sender, and not part of the payload.
	Suspect bool
	// Accepted is when it was accepted, by the wall clock, in whole milliseconds.
	Accepted time.Time
}

// meta is a message without its body, as it is stored.
type meta struct {
	Method octets              `json:"method"`
	Host   octets              `json:"host"`
	Path   octets              `json:"path"`
	Rest   octets              `json:"rest"`
	Query  octets              `json:"query,omitempty"`
	Empty  bool                `json:"empty_query,omitempty"`
	Header map[string][]octets `json:"header"` // the names are tokens
}

// octets is a text of any bytes, which JSON can't hold: what is not ASCII is written as the
// character that has the byte's number.
type octets string

// MarshalText implements encoding.TextMarshaler.
func (o octets) MarshalText() ([]byte, error) {
	text := make([]byte, 0, len(o))
	for i := range len(o) {
		text = utf8.AppendRune(text, rune(o[i]))
	}
	return text, nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *octets) UnmarshalText(text []byte) error {
	raw := make([]byte, 0, len(text))
	for _, r := range string(text) {
		if r > 0xff {
			return fmt.Errorf("the character %U stands for no byte", r)
		}
		raw = append(raw, byte(r))
	}
	*o = octets(raw)
	return nil
}

func metaOf(m *Message) *meta {
	t := &meta{octets(m.Method), octets(m.Host), octets(m.Path), octets(m.Rest), octets(m.Query), m.EmptyQuery, make(map[string][]octets, len(m.Header))}
	for name, values := range m.Header {
		all := make([]octets, len(values))
		for i, v := range values {
			all[i] = octets(v)
		}
		t.Header[name] = all
	}
	return t
}

func (t *meta) message() *Message {
	m := &Message{
		Method: string(t.Method), Host: string(t.Host), Path: string(t.Path), Rest: string(t.Rest), Query: string(t.Query), EmptyQuery: t.Empty,
		Header: make(http.Header, len(t.Header)),
	}
	for name, values := range t.Header {
		all := make([]string, len(values))
		for i, v := range values {
			all[i] = string(v)
		}
		m.Header[name] = all
	}
	return m
}

// A payload is a message as it is stored: its form in one byte, when it was accepted in eight
// (milliseconds), and then, as it is or sealed, the length of all but the body, that as JSON,
// and the body.
const (
	formPlain  = 1
	formSealed = 2
	headBytes  = 1 + 8
)

var errMalformed = errors.New("the stored message makes no sense")

// encode returns the payload of a message. A nil keyring leaves it as it is.
func encode(m *Message, keys *Keyring) ([]byte, error) {
	text, err := json.Marshal(metaOf(m))
	if err != nil {
		return nil, fmt.Errorf("encode a message: %w", err)
	}
	head := make([]byte, headBytes, headBytes+binary.MaxVarintLen64+len(text)+len(m.Body)+sealOverhead)
	head[0] = formPlain
	binary.BigEndian.PutUint64(head[1:], uint64(m.Accepted.UnixMilli()))
	if keys == nil {
		return append(appendMeta(head, text), m.Body...), nil
	}
	head[0] = formSealed
	return keys.seal(head, append(appendMeta(nil, text), m.Body...)), nil
}

func appendMeta(b, text []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// acceptedAt returns when the message in a payload was accepted.
func acceptedAt(payload []byte) time.Time {
	if len(payload) < headBytes {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(payload[1:])))
}

// decode returns the message in a payload.
func decode(payload []byte, keys *Keyring) (*Message, error) {
	if len(payload) < headBytes {
		return nil, errMalformed
	}
	content := payload[headBytes:]
	switch payload[0] {
	case formPlain:
	case formSealed:
		var err error
		if content, err = keys.open(payload[:headBytes], content); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%w: form %d", errMalformed, payload[0])
	}
	size, n := binary.Uvarint(content)
	if n <= 0 || size > uint64(len(content)-n) {
		return nil, errMalformed
	}
	var t meta
	if err := json.Unmarshal(content[n:n+int(size)], &t); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	m := t.message()
	m.Accepted, m.Body = acceptedAt(payload), content[n+int(size):]
	return m, nil
}

// note is what is known of a message's deliveries.
type note struct {
	Attempts int `json:"attempts"`
	// Failures counts the attempts whose failure the message itself may have caused: all but those that
	// found no connection to the upstream.
	Failures int `json:"failures,omitempty"`
	// FirstFailure is when the first of these was.
	FirstFailure time.Time `json:"first_failure,omitzero"`
	// Aside is whether others pass it while it waits, although the queue is ordered.
	Aside bool `json:"aside,omitempty"`
	// NotBefore is when it may be tried again; zero is at once.
	NotBefore time.Time `json:"not_before,omitzero"`
	// LastError is why the last attempt failed.
	LastError string `json:"last_error,omitempty"`
	// Cause is why a dead message is dead, and Died when that was found.
	Cause Cause     `json:"cause,omitempty"`
	Died  time.Time `json:"died,omitzero"`
}

// Cause says why a message is dead.
type Cause string

// The causes of death.
const (
	CauseRefused    Cause = "refused"    // the upstream does not want it, and never will
	CauseExpired    Cause = "expired"    // it has waited for longer than max_age
	CauseAttempts   Cause = "attempts"   // it was tried max_attempts times
	CauseUnreadable Cause = "unreadable" // its key is missing, or it is damaged
)

func (n *note) encode() []byte {
	text, _ := json.Marshal(n) // always marshals
	return text
}

// parseNote reads a note; one that makes no sense is as good as none.
func parseNote(text []byte) (n note) {
	if text == nil || json.Unmarshal(text, &n) != nil {
		return note{}
	}
	return n
}
