package template

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/template"

	"cbproxy/fallbacks"
)

// signature says which arguments a function takes.
type signature struct {
	min, max int
	takes    argumentType
}

// argumentType is the type of a function's arguments.
type argumentType int

const (
	anything argumentType = iota
	stringArgs
	integers
)

const unlimited = math.MaxInt

// signatures holds all functions that templates may call: those of this package and those of
// text/template, except call.
var signatures = map[string]signature{
	"service": {0, 0, anything},
	"reason":  {0, 0, anything},
	"method":  {0, 0, anything},
	"path":    {1, 1, integers},
	"query":   {1, 1, stringArgs},
	"header":  {1, 1, stringArgs},
	"json":    {1, 1, stringArgs},
	"default": {2, 2, anything},

	"print":    {0, unlimited, anything},
	"printf":   {1, unlimited, anything},
	"println":  {0, unlimited, anything},
	"html":     {0, unlimited, anything},
	"js":       {0, unlimited, anything},
	"urlquery": {0, unlimited, anything},

	"and":   {1, unlimited, anything},
	"or":    {1, unlimited, anything},
	"not":   {1, 1, anything},
	"eq":    {2, unlimited, anything},
	"ne":    {2, 2, anything},
	"lt":    {2, 2, anything},
	"le":    {2, 2, anything},
	"gt":    {2, 2, anything},
	"ge":    {2, 2, anything},
	"len":   {1, 1, anything},
	"index": {1, unlimited, anything},
	"slice": {1, 4, anything},
}

// functionNames holds the names of signatures in the form that the parser takes.
var functionNames = func() map[string]any {
	names := make(map[string]any, len(signatures))
	for name := range signatures {
		names[name] = true
	}
	return names
}()

// arguments describes how many arguments the function takes.
func (s signature) arguments() string {
	text, n := strconv.Itoa(s.min), s.min
	switch s.max {
	case s.min:
	case unlimited:
		text = "at least " + text
	default:
		text, n = fmt.Sprintf("%d to %d", s.min, s.max), s.max
	}
	if n == 1 {
		return text + " argument"
	}
	return text + " arguments"
}

// execContext is the input of templates: one request. Its methods are the functions of templates.
type execContext struct {
	ctx     context.Context
	request *fallbacks.Request
	body    any // the request's body, decoded from JSON
	decoded bool
}

// functions returns the functions of signatures, except those of text/template that need no bounds.
// Functions that build strings are bounded: a template may pass a function its own result again and
// again.
func (c *execContext) functions() template.FuncMap {
	return template.FuncMap{
		"service": func() string { return c.request.Service },
		"reason":  func() string { return c.request.Reason },
		"method":  func() string { return c.request.Method },
		"path":    c.path,
		"query":   c.query,
		"header":  c.header,
		"json":    c.json,
		"default": defaultValue,

		"print":    c.bounded(fmt.Sprint),
		"println":  c.bounded(fmt.Sprintln),
		"html":     c.bounded(template.HTMLEscaper),
		"js":       c.bounded(template.JSEscaper),
		"urlquery": c.bounded(template.URLQueryEscaper),
		"printf": func(format string, args ...any) (string, error) {
			return c.bounded(func(args ...any) string { return fmt.Sprintf(format, args...) })(args...)
		},
	}
}

// done returns why the context is done, or nil.
func (c *execContext) done() error {
	if c.ctx.Err() == nil {
		return nil
	}
	return context.Cause(c.ctx)
}

// path returns the segment with index n of the path that is sent upstream, counted from the end if
// n is negative. A segment with an invalid percent-encoding is returned as it is.
func (c *execContext) path(n int) any {
	rest := strings.TrimSuffix(strings.TrimPrefix(c.request.Rest, "/"), "/")
	if rest == "" {
		return nil
	}
	segments := strings.Split(rest, "/")
	if n < 0 {
		n += len(segments)
	}
	if n < 0 || n >= len(segments) {
		return nil
	}
	if decoded, err := url.PathUnescape(segments[n]); err == nil {
		return decoded
	}
	return segments[n]
}

// query returns the first validly encoded value of a parameter. Unlike url.ParseQuery it accepts
// semicolons and any number of parameters.
func (c *execContext) query(name string) any {
	for pair := range strings.SplitSeq(c.request.Query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if key, err := url.QueryUnescape(key); err != nil || key != name {
			continue
		}
		if value, err := url.QueryUnescape(value); err == nil {
			return value
		}
	}
	return nil
}

// header returns the first value of a field. net/http keeps Host apart from the other fields.
func (c *execContext) header(name string) any {
	name = http.CanonicalHeaderKey(name)
	if name == "Host" && c.request.Host != "" {
		return c.request.Host
	}
	if values := c.request.Header[name]; len(values) > 0 {
		return values[0]
	}
	return nil
}

// json returns the value in the request's body at a path of keys and list indices, separated by
// dots. A number is a json.Number, which keeps its spelling and compares as a text.
func (c *execContext) json(path string) any {
	if !c.decoded {
		c.body, c.decoded = decodeJSON(c.request.Body), true
	}
	v := c.body
	for key := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// decodeJSON returns the JSON value in body, or nil if body is not exactly one value.
func decodeJSON(body []byte) any {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil
	}
	return v
}

// defaultValue returns value, or other if value is missing or empty. 0 and false are not empty.
func defaultValue(other, value any) any {
	empty := false
	switch v := value.(type) {
	case nil:
		empty = true
	case string:
		empty = v == ""
	case []any:
		empty = len(v) == 0
	case map[string]any:
		empty = len(v) == 0
	}
	if empty {
		return other
	}
	return value
}

// bounded wraps a function that builds a string. It fails if the arguments or the result are longer
// than maxString, or if the context is done.
func (c *execContext) bounded(build func(args ...any) string) func(args ...any) (string, error) {
	return func(args ...any) (string, error) {
		if err := c.done(); err != nil {
			return "", err
		}
		size, converted := 0, make([]any, len(args))
		for i, arg := range args {
			converted[i] = arg
			switch arg.(type) {
			case nil, string, json.Number, map[string]any, []any:
				text, err := toString(arg)
				if err != nil {
					return "", err
				}
				if size += len(text); size > maxString {
					return "", errStringTooLong
				}
				converted[i] = text
			}
		}
		text := build(converted...)
		if len(text) > maxString {
			return "", errStringTooLong
		}
		return text, nil
	}
}
