package queue

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cbproxy/internal/events"
	"cbproxy/internal/queue/disk"
)

// Message is a queued request.
type Message struct {
	Method string
	Host   string
	// Path is the raw path that the client sent, and Rest the part that is sent to the upstream.
	Path string
	Rest string
	// Query is the raw query without the question mark. EmptyQuery is set if the target ends with the question mark.
	Query      string
	EmptyQuery bool
	// Header has no hop-by-hop fields. It has an Idempotency-Key.
	Header http.Header
	Body   []byte
	// Reason is why it could not be sent at once. It is not stored.
	Reason events.Reason
	// SuspectedPoison is whether the message itself may cause its failures, so that only a failure to connect counts against the upstream.
	// It is not stored.
	SuspectedPoison bool
	// Accepted is when it was accepted, by the wall clock. It is stored with millisecond precision.
	Accepted time.Time
}

// metadata is the stored form of a message without its body.
type metadata struct {
	Method octets              `json:"method"`
	Host   octets              `json:"host"`
	Path   octets              `json:"path"`
	Rest   octets              `json:"rest"`
	Query  octets              `json:"query,omitempty"`
	Empty  bool                `json:"empty_query,omitempty"`
	Header map[string][]octets `json:"header"` // the names are tokens
}

// octets is a string of arbitrary bytes. Because JSON cannot represent it, each byte is encoded as the character with its number.
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
			return fmt.Errorf("the character %U is not a byte", r)
		}
		raw = append(raw, byte(r))
	}
	*o = octets(raw)
	return nil
}

func newMetadata(m *Message) *metadata {
	meta := &metadata{octets(m.Method), octets(m.Host), octets(m.Path), octets(m.Rest), octets(m.Query), m.EmptyQuery, make(map[string][]octets, len(m.Header))}
	for name, values := range m.Header {
		all := make([]octets, len(values))
		for i, v := range values {
			all[i] = octets(v)
		}
		meta.Header[name] = all
	}
	return meta
}

// message returns the message without its body.
func (m *metadata) message() *Message {
	message := &Message{
		Method: string(m.Method), Host: string(m.Host), Path: string(m.Path), Rest: string(m.Rest), Query: string(m.Query), EmptyQuery: m.Empty,
		Header: make(http.Header, len(m.Header)),
	}
	for name, values := range m.Header {
		all := make([]string, len(values))
		for i, v := range values {
			all[i] = string(v)
		}
		message.Header[name] = all
	}
	return message
}

// A payload is the stored form of a message. Its header has one byte for the format and eight for the time of acceptance in
// milliseconds. Then follow, plain or encrypted, the length of the metadata, the metadata as JSON, and the body.
const (
	formatPlain        = 1
	formatEncrypted    = 2
	payloadHeaderBytes = 1 + 8
)

var errMalformed = errors.New("the stored message is malformed")

// encode returns the payload of a message. It is not encrypted if keys is nil.
func encode(m *Message, keys *Keyring) ([]byte, error) {
	text, err := json.Marshal(newMetadata(m))
	if err != nil {
		return nil, fmt.Errorf("encode a message: %w", err)
	}
	header := make([]byte, payloadHeaderBytes, payloadHeaderBytes+binary.MaxVarintLen64+len(text)+len(m.Body)+sealOverhead)
	header[0] = formatPlain
	binary.BigEndian.PutUint64(header[1:], uint64(m.Accepted.UnixMilli()))
	if keys == nil {
		return append(appendMetadata(header, text), m.Body...), nil
	}
	header[0] = formatEncrypted
	return keys.seal(header, append(appendMetadata(nil, text), m.Body...)), nil
}

func appendMetadata(b, text []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// acceptedAt returns when the message in a payload was accepted.
func acceptedAt(payload []byte) time.Time {
	if len(payload) < payloadHeaderBytes {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(payload[1:])))
}

// decode returns the message in a payload.
func decode(payload []byte, keys *Keyring) (*Message, error) {
	if len(payload) < payloadHeaderBytes {
		return nil, errMalformed
	}
	content := payload[payloadHeaderBytes:]
	switch payload[0] {
	case formatPlain:
	case formatEncrypted:
		var err error
		if content, err = keys.open(payload[:payloadHeaderBytes], content); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%w: unknown format %d", errMalformed, payload[0])
	}
	size, n := binary.Uvarint(content)
	if n <= 0 || size > uint64(len(content)-n) {
		return nil, errMalformed
	}
	var meta metadata
	if err := json.Unmarshal(content[n:n+int(size)], &meta); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	m := meta.message()
	m.Accepted, m.Body = acceptedAt(payload), content[n+int(size):]
	return m, nil
}

// entry is a stored message with its decoded delivery state.
type entry struct {
	seq      uint64
	payload  []byte
	delivery deliveryState
	trial    bool // findTrial chose it, to be sent before older messages
	expired  bool // choose has found that it has waited for MaxAge
}

// isDead reports whether the message is to become a dead letter without being sent.
func (e *entry) isDead() bool { return e.expired || e.delivery.DeadCause != "" }

func entryOf(r disk.Record) entry {
	return entry{seq: r.Seq, payload: r.Payload, delivery: parseDeliveryState(r.DeliveryState)}
}

// formatID returns the ID of a message: its service and its sequence number in the store.
func formatID(service string, seq uint64) string {
	return service + "." + strconv.FormatUint(seq, 10)
}

// parseID parses an ID. seq is 0, which no message has, if the ID is invalid.
func parseID(id string) (service string, seq uint64) {
	service, number, _ := strings.Cut(id, ".")
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return service, 0
	}
	return service, seq
}

// deliveryState is what changes about a stored message with each attempt.
type deliveryState struct {
	Attempts int `json:"attempts"`
	// Failures counts the failed attempts that the message may have caused: those without Failed.NotCausedByMessage.
	Failures int `json:"failures,omitempty"`
	// FirstFailure is the time of the first failure that Failures counts.
	FirstFailure time.Time `json:"first_failure,omitzero"`
	// SetAside is whether its failures no longer block later messages of an ordered queue.
	SetAside bool `json:"aside,omitempty"`
	// NotBefore is the earliest time of the next attempt; zero is at once.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Requeued is when a dead message was added to the queue again; its age counts from then. It is zero if it never was.
	Requeued time.Time `json:"requeued,omitzero"`
	// LastError is why the last attempt failed.
	LastError string `json:"last_error,omitempty"`
	// DeadCause is why the message became a dead letter, and DeadSince when. They are empty while it waits, unless it could not be
	// moved to the dead letters yet.
	DeadCause Cause     `json:"cause,omitempty"`
	DeadSince time.Time `json:"died,omitzero"`
}

// Cause is why a message became a dead letter.
type Cause string

// The causes.
const (
	CauseRefused    Cause = "refused"    // the upstream rejected it with a status that is not retried, or it cannot be sent
	CauseExpired    Cause = "expired"    // it is older than max_age
	CauseAttempts   Cause = "attempts"   // max_attempts attempts failed
	CauseUnreadable Cause = "unreadable" // its encryption key is missing, or it is damaged
)

// blocksNothing reports whether later messages of an ordered queue do not wait for the message.
func (d *deliveryState) blocksNothing() bool { return d.SetAside || d.DeadCause != "" }

func (d *deliveryState) encode() []byte {
	text, _ := json.Marshal(d) // always marshals
	return text
}

// parseDeliveryState decodes a delivery state. It returns an empty one if text is malformed.
func parseDeliveryState(text []byte) (d deliveryState) {
	if text == nil || json.Unmarshal(text, &d) != nil {
		return deliveryState{}
	}
	return d
}
