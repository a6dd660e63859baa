package queue

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// Message is a request that waits for its upstream.
type Message struct {
	Method string `json:"method"`
	Host   string `json:"host"`
	// Path is the raw path as the client wrote it, and Rest what of it goes upstream.
	Path string `json:"path"`
	Rest string `json:"rest"`
	// Query is raw, without its question mark.
	Query string `json:"query,omitempty"`
	// Header has no field that concerns the client's connection. It has an Idempotency-Key.
	Header http.Header `json:"header"`
	Body   []byte      `json:"-"`
	// Accepted is when it was accepted, by the wall clock, in whole milliseconds.
	Accepted time.Time `json:"-"`
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
	meta, err := json.Marshal(m.translated(latin1))
	if err != nil {
		return nil, fmt.Errorf("encode a message: %w", err)
	}
	head := make([]byte, headBytes, headBytes+binary.MaxVarintLen64+len(meta)+len(m.Body)+sealOverhead)
	head[0] = formPlain
	binary.BigEndian.PutUint64(head[1:], uint64(m.Accepted.UnixMilli()))
	if keys == nil {
		return append(appendMeta(head, meta), m.Body...), nil
	}
	head[0] = formSealed
	return keys.seal(head, append(appendMeta(nil, meta), m.Body...)), nil
}

func appendMeta(b, meta []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(meta))), meta...)
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
	m := &Message{Accepted: acceptedAt(payload), Body: content[n+int(size):]}
	if err := json.Unmarshal(content[n:n+int(size)], m); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return m.translated(bytesOf), nil
}

// translated returns a copy with f applied to what may have bytes that are no UTF-8. JSON has
// none for them: they are written as the characters of the same numbers.
func (m *Message) translated(f func(string) string) *Message {
	t := *m
	t.Host, t.Path, t.Rest, t.Query = f(m.Host), f(m.Path), f(m.Rest), f(m.Query)
	t.Header = make(http.Header, len(m.Header))
	for name, values := range m.Header {
		for _, v := range values {
			t.Header[name] = append(t.Header[name], f(v))
		}
	}
	return &t
}

// latin1 returns the text whose characters are numbered as the bytes of s are.
func latin1(s string) string {
	if isASCII(s) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

// bytesOf takes latin1 back.
func bytesOf(s string) string {
	if isASCII(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		b.WriteByte(byte(r))
	}
	return b.String()
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// note is what is known of a message's deliveries.
type note struct {
	Attempts int `json:"attempts"`
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
