package fallbacks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/template"
)

// functions returns what templates may call beside text/template's own, and bounded ones in
// place of those of these that make texts: one that is fed its own result over and over must
// not grow without end.
func (f *filler) functions() template.FuncMap {
	return template.FuncMap{
		"service": func() string { return f.request.Service },
		"reason":  func() string { return string(f.request.Reason) },
		"method":  func() string { return f.request.Method },
		"path":    f.path,
		"query":   f.query,
		"header":  f.header,
		"json":    f.json,
		"default": func(instead, value any) any {
			if isEmpty(value) {
				return instead
			}
			return value
		},
		"print":    f.bounded(fmt.Sprint),
		"println":  f.bounded(fmt.Sprintln),
		"html":     f.bounded(template.HTMLEscaper),
		"js":       f.bounded(template.JSEscaper),
		"urlquery": f.bounded(template.URLQueryEscaper),
		"printf": func(format string, args ...any) (string, error) {
			return f.bounded(func(args ...any) string { return fmt.Sprintf(format, args...) })(args...)
		},
	}
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
func (f *filler) path(n int) any {
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
func (f *filler) query(name string) any {
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
func (f *filler) header(name string) any {
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
func (f *filler) json(path string) any {
	if !f.parsed {
		f.fields, f.parsed = parseBody(f.request.Body), true
	}
	v := f.fields
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
func (f *filler) bounded(text func(args ...any) string) func(args ...any) (string, error) {
	return func(args ...any) (string, error) {
		if err := context.Cause(f.ctx); err != nil {
			return "", err
		}
		size, plain := 0, make([]any, len(args))
		for i, arg := range args {
			plain[i] = arg
			switch arg.(type) {
			case nil, string, json.Number, map[string]any, []any:
				part, err := textOf(arg)
				if err != nil {
					return "", err
				}
				if size += len(part); size > maxTemplateText {
					return "", errLongText
				}
				plain[i] = part
			}
		}
		made := text(plain...)
		if len(made) > maxTemplateText {
			return "", errLongText
		}
		return made, nil
	}
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

// text is where the value of an action goes that is part of a text.
func (f *filler) text(v any) (string, error) {
	if err := context.Cause(f.ctx); err != nil {
		return "", err
	}
	return textOf(v)
}

// keep is where the value of an action goes that is a template by itself.
func (f *filler) keep(v any) (string, error) {
	f.value = v
	return "", context.Cause(f.ctx)
}

const maxTurns = 1 << 16

// turns is where the value of a range goes.
func (f *filler) turns(v any) (any, error) {
	if n, ok := v.(int); ok && n > maxTurns {
		return nil, fmt.Errorf("range over %d, which is more than %d", n, maxTurns)
	}
	return v, context.Cause(f.ctx)
}
