package fallbacks

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"cbproxy/internal/events"
)

// inquiry is a request as an endpoint gets it. What is not UTF-8 outside of the body is
// replaced by U+FFFD.
type inquiry struct {
	// Version is that of the envelope: 1. Keys may be added to it.
	Version int           `json:"version"`
	Service string        `json:"service"`
	Reason  events.Reason `json:"reason"`
	Method  string        `json:"method"`
	Host    string        `json:"host"`
	// Path and Query are raw: percent-encoded as the client wrote them.
	Path  string `json:"path"`
	Query string `json:"query"`
	// Headers holds those fields alone that the options name, under their canonical names.
	Headers map[string][]string `json:"headers"`
	// Body is there if the request has one that is UTF-8, and BodyBase64 if it is not.
	Body       string `json:"body,omitempty"`
	BodyBase64 []byte `json:"body_base64,omitempty"`
	// BodyOmitted says why neither is there although there may be a body.
	BodyOmitted string `json:"body_omitted,omitempty"`
}

const envelopeVersion = 1

// writeQuestion returns r as JSON, with the named fields of its header.
func writeQuestion(r *Request, headers []string) ([]byte, error) {
	q := inquiry{
		Version: envelopeVersion,
		Service: r.Service, Reason: events.Reason(r.Reason),
		Method: r.Method, Host: r.Host, Path: r.Path, Query: r.Query,
		Headers: make(map[string][]string, len(headers)),
	}
	for _, name := range headers {
		if values := r.Header[name]; len(values) > 0 {
			q.Headers[name] = values
		}
	}
	switch {
	case r.BodyError != nil:
		q.BodyOmitted = r.BodyError.Error()
	case utf8.Valid(r.Body):
		q.Body = string(r.Body)
	default:
		q.BodyBase64 = r.Body
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(&q)
	return b.Bytes(), err
}

// reply is what an endpoint says, key by key:
//
//   - status: the answer's, from 200 to 599; it must be there.
//   - headers: an object of a string, or a list of strings, by field name. Fields that the
//     proxy sets itself are left out.
//   - body: any JSON value, which is served byte for byte, as application/json unless headers
//     says otherwise.
//   - body_text: a string, served as UTF-8, as text/plain unless headers says otherwise.
//   - body_base64: a string of standard base64 with padding, served decoded.
//
// One of the bodies may be there at most. There are no other keys, and none twice.
type reply struct {
	answer  Answer
	hasBody bool
	// contentType is the answer's unless it has one of its own.
	contentType string
}

// readAnswer returns the answer in what an endpoint says. The answer shares no memory with
// text.
func readAnswer(text []byte) (*Answer, error) {
	var valid json.RawMessage
	if err := json.Unmarshal(text, &valid); err != nil {
		return nil, err
	}
	r := reply{answer: Answer{Header: http.Header{}}}
	if err := eachMember(text, r.set); err != nil {
		return nil, err
	}
	a := &r.answer
	switch {
	case a.Status == 0:
		return nil, errors.New("status must be there")
	case r.hasBody && !BodyAllowed(a.Status):
		return nil, fmt.Errorf("a response with status %d has no body", a.Status)
	case r.contentType != "" && a.Header["Content-Type"] == nil:
		a.Header.Set("Content-Type", r.contentType)
	}
	return a, nil
}

// set takes over the value at one key.
func (r *reply) set(key string, value json.RawMessage) error {
	switch key {
	case "status":
		if err := json.Unmarshal(value, &r.answer.Status); err != nil || r.answer.Status < 200 || r.answer.Status > 599 {
			return fmt.Errorf("status must be a number from 200 to 599, got %.40s", value)
		}
		return nil
	case "headers":
		if err := eachMember(value, r.setHeader); err != nil {
			return fmt.Errorf("headers: %w", err)
		}
		return nil
	case "body", "body_text", "body_base64":
		return r.setBody(key, value)
	}
	return fmt.Errorf("unknown key %.40q", key)
}

func (r *reply) setHeader(name string, value json.RawMessage) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("%.40q is no field name", name)
	}
	canonical := http.CanonicalHeaderKey(name)
	if _, ok := r.answer.Header[canonical]; ok {
		return fmt.Errorf("%.40s is there twice", canonical)
	}
	values, err := stringsOf(value)
	if err != nil {
		return fmt.Errorf("%.40s: %w", name, err)
	}
	for _, v := range values {
		if !httpguts.ValidHeaderFieldValue(v) {
			return fmt.Errorf("%.40s: %.40q is no field value", name, v)
		}
	}
	r.answer.Header[canonical] = values
	return nil
}

func (r *reply) setBody(key string, value json.RawMessage) error {
	if r.hasBody {
		return errors.New("there is more than one body")
	}
	r.hasBody = true
	if key == "body" {
		r.answer.Body, r.contentType = value, "application/json"
		return nil
	}
	s, err := stringOf(value)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if key == "body_text" {
		r.answer.Body, r.contentType = []byte(s), "text/plain; charset=utf-8"
		return nil
	}
	if r.answer.Body, err = base64.StdEncoding.Strict().DecodeString(s); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// stringsOf returns a string, or the strings in a list.
func stringsOf(value json.RawMessage) ([]string, error) {
	if value[0] != '[' {
		s, err := stringOf(value)
		return []string{s}, err
	}
	var items []json.RawMessage
	if err := json.Unmarshal(value, &items); err != nil {
		return nil, err
	}
	list := make([]string, len(items))
	for i, item := range items {
		var err error
		if list[i], err = stringOf(item); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func stringOf(value json.RawMessage) (s string, err error) {
	if value[0] != '"' { // encoding/json would take null for ""
		return "", errors.New("must be a string")
	}
	err = json.Unmarshal(value, &s)
	return s, err
}

// eachMember calls f with the keys and values of an object, in its order. value is valid JSON.
// encoding/json alone would be content with a key in other letters, or twice.
func eachMember(value []byte, f func(key string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(value))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("must be a JSON object")
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string) // as each key is
		if seen[key] {
			return fmt.Errorf("key %.40q is there twice", key)
		}
		seen[key] = true
		var member json.RawMessage
		if err := d.Decode(&member); err != nil {
			return fmt.Errorf("key %.40q: %w", key, err)
		}
		if err := f(key, member); err != nil {
			return err
		}
	}
	return nil
}
