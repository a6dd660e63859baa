package endpoint

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"cbproxy/fallbacks"
)

// envelope is a request in the form that an endpoint gets. Invalid UTF-8 in all fields but
// BodyBase64 is replaced by U+FFFD.
type envelope struct {
	// Version is the version of the format: 1. New keys do not change it.
	Version int    `json:"version"`
	Service string `json:"service"`
	Reason  string `json:"reason"`
	Method  string `json:"method"`
	Host    string `json:"host"`
	// Path and Query are raw, with the percent-encoding of the client.
	Path  string `json:"path"`
	Query string `json:"query"`
	// Headers has the fields that the options name, under their canonical names.
	Headers map[string][]string `json:"headers"`
	// Body is the request's body if that is valid UTF-8, else BodyBase64 is.
	Body       string `json:"body,omitempty"`
	BodyBase64 []byte `json:"body_base64,omitempty"`
	// BodyOmitted says why a body is missing.
	BodyOmitted string `json:"body_omitted,omitempty"`
}

const envelopeVersion = 1

// encodeRequest returns r as JSON, with the header fields of the given names.
func encodeRequest(r *fallbacks.Request, headers []string) ([]byte, error) {
	e := envelope{
		Version: envelopeVersion,
		Service: r.Service, Reason: r.Reason,
		Method: r.Method, Host: r.Host, Path: r.Path, Query: r.Query,
		Headers: make(map[string][]string, len(headers)),
	}
	for _, name := range headers {
		if values := r.Header[name]; len(values) > 0 {
			e.Headers[name] = values
		}
	}
	switch {
	case r.BodyError != nil:
		e.BodyOmitted = r.BodyError.Error()
	case utf8.Valid(r.Body):
		e.Body = string(r.Body)
	default:
		e.BodyBase64 = r.Body
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(&e)
	return b.Bytes(), err
}

// answerDecoder decodes an endpoint's response, key by key:
//
//   - status: the status of the answer, from 200 to 599. It is required.
//   - headers: an object with a string, or a list of strings, by field name. Fields that the proxy
//     sets itself are ignored.
//   - body: any JSON value. It is sent unchanged, as application/json unless headers has another
//     Content-Type.
//   - body_text: a string. It is sent as UTF-8, as text/plain unless headers has another
//     Content-Type.
//   - body_base64: a string in standard base64 with padding. It is sent decoded.
//
// There may be one of the bodies. Other keys, and duplicate keys, are errors.
type answerDecoder struct {
	answer      fallbacks.Answer
	hasBody     bool
	contentType string // of the body, unless the answer's header has one
}

// decodeAnswer decodes an endpoint's response. The answer does not share memory with text.
func decodeAnswer(text []byte) (*fallbacks.Answer, error) {
	var valid json.RawMessage
	if err := json.Unmarshal(text, &valid); err != nil {
		return nil, err
	}
	d := answerDecoder{answer: fallbacks.Answer{Header: http.Header{}}}
	if err := eachMember(text, d.set); err != nil {
		return nil, err
	}
	a := &d.answer
	switch {
	case a.Status == 0:
		return nil, errors.New("status is required")
	case d.hasBody && !fallbacks.BodyAllowed(a.Status):
		return nil, fmt.Errorf("a response with status %d has no body", a.Status)
	case d.contentType != "" && a.Header["Content-Type"] == nil:
		a.Header.Set("Content-Type", d.contentType)
	}
	return a, nil
}

// set decodes the value of one key.
func (d *answerDecoder) set(key string, value json.RawMessage) error {
	switch key {
	case "status":
		if err := json.Unmarshal(value, &d.answer.Status); err != nil || d.answer.Status < 200 || d.answer.Status > 599 {
			return fmt.Errorf("status must be a number from 200 to 599, got %.40s", value)
		}
		return nil
	case "headers":
		if err := eachMember(value, d.setHeader); err != nil {
			return fmt.Errorf("headers: %w", err)
		}
		return nil
	case "body", "body_text", "body_base64":
		return d.setBody(key, value)
	}
	return fmt.Errorf("unknown key %.40q", key)
}

func (d *answerDecoder) setHeader(name string, value json.RawMessage) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("%.40q is not a valid field name", name)
	}
	canonical := http.CanonicalHeaderKey(name)
	if _, ok := d.answer.Header[canonical]; ok {
		return fmt.Errorf("duplicate field %.40s", canonical)
	}
	values, err := decodeStrings(value)
	if err != nil {
		return fmt.Errorf("%.40s: %w", name, err)
	}
	for _, v := range values {
		if !httpguts.ValidHeaderFieldValue(v) {
			return fmt.Errorf("%.40s: %.40q is not a valid field value", name, v)
		}
	}
	d.answer.Header[canonical] = values
	return nil
}

func (d *answerDecoder) setBody(key string, value json.RawMessage) error {
	if d.hasBody {
		return errors.New("more than one body")
	}
	d.hasBody = true
	if key == "body" {
		d.answer.Body, d.contentType = value, "application/json"
		return nil
	}
	s, err := decodeString(value)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if key == "body_text" {
		d.answer.Body, d.contentType = []byte(s), "text/plain; charset=utf-8"
		return nil
	}
	if d.answer.Body, err = base64.StdEncoding.Strict().DecodeString(s); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// decodeStrings decodes a string or a list of strings.
func decodeStrings(value json.RawMessage) ([]string, error) {
	if value[0] != '[' {
		s, err := decodeString(value)
		return []string{s}, err
	}
	var items []json.RawMessage
	if err := json.Unmarshal(value, &items); err != nil {
		return nil, err
	}
	list := make([]string, len(items))
	for i, item := range items {
		var err error
		if list[i], err = decodeString(item); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func decodeString(value json.RawMessage) (s string, err error) {
	if value[0] != '"' { // json.Unmarshal accepts null
		return "", errors.New("must be a string")
	}
	err = json.Unmarshal(value, &s)
	return s, err
}

// eachMember calls f with the keys and values of an object, in order. value is valid JSON. Unlike
// json.Unmarshal it is case-sensitive and rejects duplicate keys.
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
		key, _ := t.(string) // keys are always strings
		if seen[key] {
			return fmt.Errorf("duplicate key %.40q", key)
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
