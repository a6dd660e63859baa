package expression

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// expressions are valid expressions on a Response, for fuzzing.
var expressions = []string{
	"status == 200 && header('X-Error') != ''",
	"json('error.code') == 'overloaded'",
	"json('a') > 3 || json('a') <= json('b')",
	"json('a') in json('b') || 'x' in json('b')",
	"json('a') % json('b') == 1 || status % int(json('a')) == 0",
	"float(header('A')) > 0.5 || int(header('A')) > 1",
	"len(json('a')) > 3 || abs(json('b')) > 1",
	"json('a.0.b') matches '(?i)err|a+b*$' || header('A') matches '^x{2,5}'",
	"(json('a') ?? json('b')) contains 'x' || json('a') startsWith grpc_status",
	"-json('a') + 1 > json('b') * 2 / status",
	"json('a') ? json('b') == 1 : !json('b')",
	"json('a') == json('b') && json('a') != [1, 'x', nil]",
}

// No text makes the compiler panic, and every error has a position within the text.
func FuzzCompile(f *testing.F) {
	for _, text := range append(expressions, "1 < 2 < 3", "any([1], # > 0)", "let a = 1; a", "if true {1} else {2}", "$env", "a.b?.c[1:2]", "{a: 1}", "`a\\.b`", "'é", "1..2", "a | b()", "::abs(1)") {
		f.Add(text)
	}
	responses := []Response{{}, response}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := CompileOpenWhen(text)
		checkCompileError(t, text, err)
		if err == nil {
			var m Machine
			_, err := o.Evaluate(&m, &Window{Requests: 1, Failures: 1, FailureRatio: 1})
			checkRunError(t, err)
		}
		w, err := CompileFailureWhen(text)
		checkCompileError(t, text, err)
		if err == nil {
			for _, r := range responses {
				_, err := w.Evaluate(r)
				checkRunError(t, err)
			}
		}
	})
}

func checkCompileError(t *testing.T, text string, err error) {
	var e *Error
	switch {
	case err == nil:
	case !errors.As(err, &e) || e.Message == "" || strings.Contains(e.Message, "\n"):
		t.Errorf("%q: %#v", text, err)
	case e.Line < 1 || e.Line > strings.Count(text, "\n")+1 || e.Column < 1 || e.Column > len(text)+1:
		t.Errorf("%q: position %d:%d", text, e.Line, e.Column)
	case strings.Contains(e.Message, "runtime error") || strings.Contains(e.Message, "interface conversion"):
		t.Errorf("%q: the compiler panicked: %v", text, e)
	}
}

func checkRunError(t *testing.T, err error) {
	var e *Error
	if err != nil && (!errors.As(err, &e) || e.Message == "" || e.Line < 1 || e.Column < 1) {
		t.Errorf("%#v", err)
	}
}

// No value makes an evaluation panic, and an evaluation leaves nothing behind for the next one.
func FuzzFailureWhen(f *testing.F) {
	compiled := make([]*FailureWhen, len(expressions))
	for i, text := range expressions {
		var err error
		if compiled[i], err = CompileFailureWhen(text); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(200, "x", "UNAVAILABLE", []byte(`{"a":1,"b":[1,"x"]}`))
	f.Add(0, "0.7", "", []byte(`{"a":"x","b":{"x":null}}`))
	f.Add(-1, "", "OK", []byte(`{"a":[{"b":"Err"}],"b":-0}`))
	f.Add(math.MaxInt64, "9999999999999999999", "", []byte(`{"a":0,"b":1e400}`))
	f.Fuzz(func(t *testing.T, status int, field, grpcStatus string, body []byte) {
		r := Response{Status: status, Header: map[string][]string{"A": {field}, "X-Error": {field}}, GRPCStatus: grpcStatus, Body: body}
		for i, w := range compiled {
			first, err := w.Evaluate(r)
			checkRunError(t, err)
			if _, err := w.Evaluate(Response{}); err != nil {
				checkRunError(t, err)
			}
			second, again := w.Evaluate(r)
			if first != second || (err == nil) != (again == nil) {
				t.Errorf("%s: got %v, %v and then %v, %v", expressions[i], first, err, second, again)
			}
		}
	})
}

// No value makes an evaluation of a Window panic, and both forms of an expression have the same result.
func FuzzOpenWhen(f *testing.F) {
	var compiled []*OpenWhen
	texts := []string{
		"requests >= 20 && (failure_ratio > 0.3 || p95 > 2)",
		"requests % failures == 0 || failures % connects > 1",
		"int(failure_ratio * 1e300) + int(p50) > -requests",
		"abs(p99 - p50) / slow_ratio in [1, 2.5, nil]",
		"failures * 100 / requests > p95 || -p99 == p50",
	}
	for _, text := range texts {
		o, err := CompileOpenWhen(text)
		if err != nil {
			f.Fatal(err)
		}
		compiled = append(compiled, o)
	}
	f.Add(uint32(20), uint32(5), uint32(1), 0.25, 1.5)
	f.Add(uint32(0), uint32(0), uint32(0), math.NaN(), math.Inf(1))
	f.Add(uint32(math.MaxUint32), uint32(1), uint32(1), math.Inf(-1), math.Copysign(0, -1))
	f.Fuzz(func(t *testing.T, requests, failures, connects uint32, ratio, p float64) {
		var m Machine
		w := &Window{Requests: int(requests), Failures: int(failures), Connects: int(connects), FailureRatio: ratio, SlowRatio: ratio, P50: p, P95: p, P99: -p}
		for i, o := range compiled {
			_, err := o.Evaluate(&m, w)
			checkRunError(t, err)
			sameResult(t, texts[i], o, w)
		}
	})
}

// The values at paths are those that encoding/json finds.
func FuzzJSONPaths(f *testing.F) {
	for _, path := range []string{"a", "a.b", "a.0", "b.1.a", "0.0", `a\.b`, "é"} {
		f.Add([]byte(`{"a": {"b": [1, {"a": "x\n"}]}, "b": [null, {"a": true}], "a.b": -1.5e3, "é": "\u00e9", "a": [[2]]}`), path)
		f.Add([]byte(`[[0, "x"], {"a": {"0": 1}}]`), path)
	}
	f.Fuzz(func(t *testing.T, body []byte, path string) {
		if checkPath(path) != "" {
			return
		}
		root := newPathNode()
		root.add(splitPath("a"), 0) // a second path must not change the result
		root.add(splitPath(path), 1)
		values := make([]any, 2)
		scanJSON(body, root, values)
		var document, want any
		if err := json.Unmarshal(body, &document); err == nil && !exceedsDepth(body, maxBodyDepth) && len(body) <= maxBody {
			want = lookup(document, splitPath(path))
		} else if err != nil && json.Valid(body) {
			return // a number that is no float64
		}
		if err, failed := values[1].(error); failed {
			t.Skip(err) // the value is too large
		}
		if !reflect.DeepEqual(values[1], want) {
			t.Errorf("%s in %s: got %#v, want %#v", path, body, values[1], want)
		}
	})
}

// lookup returns the value at a path in a decoded document, nil if there is none.
func lookup(v any, parts []string) any {
	for _, part := range parts {
		switch container := v.(type) {
		case map[string]any:
			v = container[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || strconv.Itoa(i) != part || i < 0 || i >= len(container) {
				return nil
			}
			v = container[i]
		default:
			return nil
		}
	}
	return v
}
