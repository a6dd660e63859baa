package fallbacks

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
)

// filling is the work on one request.
type filling struct {
	ctx     context.Context
	request *Request
	body    any // the request's, as JSON
	parsed  bool
}

// done returns why the work is over before its end, nil if it is not.
func (f *filling) done() error {
	if f.ctx.Err() == nil {
		return nil
	}
	return context.Cause(f.ctx)
}

// function is one that templates may call.
type function struct {
	least, most int // of its arguments
	takes       kind
	call        func(f *filling, args []any) (any, error)
	enough      func(arg any) bool // whether this argument is the result, and those after it don't matter; may be nil
}

const anyNumber = math.MaxInt

// functions holds all that templates may call: what is here beside text/template's own. Bounded
// are those of these that make texts: one that is fed its own result over and over must not grow
// without end.
var functions = map[string]function{
	"service": {0, 0, anything, func(f *filling, _ []any) (any, error) { return f.request.Service, nil }, nil},
	"reason":  {0, 0, anything, func(f *filling, _ []any) (any, error) { return string(f.request.Reason), nil }, nil},
	"method":  {0, 0, anything, func(f *filling, _ []any) (any, error) { return f.request.Method, nil }, nil},
	"path":    {1, 1, wholes, func(f *filling, args []any) (any, error) { return f.path(args[0].(int)), nil }, nil},
	"query":   {1, 1, texts, func(f *filling, args []any) (any, error) { return f.query(args[0].(string)), nil }, nil},
	"header":  {1, 1, texts, func(f *filling, args []any) (any, error) { return f.header(args[0].(string)), nil }, nil},
	"json":    {1, 1, texts, func(f *filling, args []any) (any, error) { return f.json(args[0].(string)), nil }, nil},
	"default": {2, 2, anything, func(_ *filling, args []any) (any, error) { return instead(args[0], args[1]), nil }, nil},

	"print":    {0, anyNumber, anything, bounded(fmt.Sprint), nil},
	"println":  {0, anyNumber, anything, bounded(fmt.Sprintln), nil},
	"html":     {0, anyNumber, anything, bounded(template.HTMLEscaper), nil},
	"js":       {0, anyNumber, anything, bounded(template.JSEscaper), nil},
	"urlquery": {0, anyNumber, anything, bounded(template.URLQueryEscaper), nil},
	"printf":   {1, anyNumber, anything, printf, nil}, // its first argument is a text, and what it asks for is bounded

	"and":   {1, anyNumber, anything, last, func(arg any) bool { return !truth(arg) }},
	"or":    {1, anyNumber, anything, last, truth},
	"not":   {1, 1, anything, func(_ *filling, args []any) (any, error) { return !truth(args[0]), nil }, nil},
	"eq":    {2, anyNumber, anything, func(_ *filling, args []any) (any, error) { return equalsOne(args[0], args[1:]) }, nil},
	"ne":    {2, 2, anything, func(_ *filling, args []any) (any, error) { equal, err := equal(args[0], args[1]); return !equal, err }, nil},
	"lt":    {2, 2, anything, compares(func(order int) bool { return order < 0 }), nil},
	"le":    {2, 2, anything, compares(func(order int) bool { return order <= 0 }), nil},
	"gt":    {2, 2, anything, compares(func(order int) bool { return order > 0 }), nil},
	"ge":    {2, 2, anything, compares(func(order int) bool { return order >= 0 }), nil},
	"len":   {1, 1, anything, func(_ *filling, args []any) (any, error) { return length(args[0]) }, nil},
	"index": {1, anyNumber, anything, func(_ *filling, args []any) (any, error) { return index(args[0], args[1:]) }, nil},
	"slice": {1, 4, anything, func(_ *filling, args []any) (any, error) { return slice(args[0], args[1:]) }, nil},
}

// arity says how many arguments f takes.
func (f function) arity() string {
	text, n := strconv.Itoa(f.least), f.least
	switch f.most {
	case f.least:
	case anyNumber:
		text = "at least " + text
	default:
		text, n = fmt.Sprintf("%d to %d", f.least, f.most), f.most
	}
	if n == 1 {
		return text + " argument"
	}
	return text + " arguments"
}

// kind is a kind of arguments.
type kind string

const (
	anything kind = "anything"
	texts    kind = "text"
	wholes   kind = "a whole number"
)

func (k kind) has(v any) bool {
	ok := true
	switch k {
	case texts:
		_, ok = v.(string)
	case wholes:
		_, ok = v.(int)
	}
	return ok
}

func last(_ *filling, args []any) (any, error) { return args[len(args)-1], nil }

// instead returns other if value is missing or empty.
func instead(other, value any) any {
	if isEmpty(value) {
		return other
	}
	return value
}

// isEmpty reports whether default stands in for v. 0 and false are values like others.
func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// path returns the nth segment of what of the path goes upstream, from 0, or from the end if n
// is negative. A segment that is badly encoded is as the client wrote it.
func (f *filling) path(n int) any {
	rest := strings.TrimSuffix(strings.TrimPrefix(f.request.Rest, "/"), "/")
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

// query returns the first value of a parameter, of those that are well encoded. A ; is
// a character like others, and there may be any number of parameters.
func (f *filling) query(name string) any {
	for pair := range strings.SplitSeq(f.request.Query, "&") {
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

// header returns the first value of a field. Host is kept apart from the others.
func (f *filling) header(name string) any {
	name = http.CanonicalHeaderKey(name)
	if name == "Host" && f.request.Host != "" {
		return f.request.Host
	}
	if values := f.request.Header[name]; len(values) > 0 {
		return values[0]
	}
	return nil
}

// json returns what stands in the request's body at a path of keys and list indices. A number
// is a json.Number: it keeps its text, and is text to functions that compare.
func (f *filling) json(path string) any {
	if !f.parsed {
		f.body, f.parsed = parseBody(f.request.Body), true
	}
	v := f.body
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

// parseBody returns the one JSON value that body is, nil if it is anything else.
func parseBody(body []byte) any {
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

// bounded returns a function that makes a text, with bounds on what goes in and what comes out.
func bounded(text func(args ...any) string) func(f *filling, args []any) (any, error) {
	return func(f *filling, args []any) (any, error) {
		if err := f.done(); err != nil {
			return nil, err
		}
		size, plain := 0, make([]any, len(args))
		for i, arg := range args {
			plain[i] = arg
			switch arg.(type) {
			case nil, string, json.Number, map[string]any, []any:
				part, err := textOf(arg)
				if err != nil {
					return nil, err
				}
				if size += len(part); size > maxTemplateText {
					return nil, errLongText
				}
				plain[i] = part
			}
		}
		made := text(plain...)
		if len(made) > maxTemplateText {
			return nil, errLongText
		}
		return made, nil
	}
}

func printf(f *filling, args []any) (any, error) {
	return bounded(func(rest ...any) string { return fmt.Sprintf(args[0].(string), rest...) })(f, args[1:])
}

// textOf returns v as it stands within a text: nothing if it is missing, compact JSON if it has
// parts.
func textOf(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case map[string]any, []any:
		var b bytes.Buffer
		err := encode(&b, v)
		return b.String(), err
	}
	return fmt.Sprint(v), nil
}
