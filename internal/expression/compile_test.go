package expression

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// checkError checks that err is an *Error with a message that contains want, at a position.
func checkError(t *testing.T, text string, err error, want string, line, column int) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("%s: got %v, want an *Error", text, err)
		return
	}
	if !strings.Contains(e.Message, want) || e.Line != line || e.Column != column {
		t.Errorf("%s: got %s at %d:%d, want %s at %d:%d", text, e.Message, e.Line, e.Column, want, line, column)
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, c := range []struct {
		text         string
		want         string
		line, column int
	}{
		{"", "must not be empty", 1, 1},
		{" \n", "must not be empty", 1, 1},
		{"\xff", "must be UTF-8", 1, 1},
		{strings.Repeat(" ", maxText) + "1", "at most 4096 bytes, got 4097", 1, 1},
		{"status", "must be true or false, such as a comparison, got a value of type int", 1, 1},
		{"json('failed')", "must be true or false, such as a comparison, got a value of type any", 1, 1},
		{"status == 200 ||", "unexpected token EOF", 1, 16},
		{"status = 200", "unexpected token", 1, 8},
		{"status == 'a'", "mismatched types int and string", 1, 8},
		{"header('a') > 1", "mismatched types string and int", 1, 13},
		{"status == 200 &&\n  statuss == 1", "unknown name statuss, must be one of status, grpc_status, abs", 2, 3},
		{"'é' == 'é' || foo", "unknown name foo", 1, 15},
		{"header == ''", "header is a function and must be called", 1, 1},
		{"status == 99999999999999999999", "value out of range", 1, 30},
		{"5 % 0 == 1", "integer divide by zero", 1, 3},
		// what could run for long, or reach outside
		{"1 < status < 3", "write a < b && b < c", 1, 5},
		{"(status ?: 1) == 1", "a ? a : b instead of a ?: b", 1, 2},
		{"len(1..1000000000) > 0", "the operator .. is not supported", 1, 6},
		{"status ** 2 == 1", "the operator ** is not supported", 1, 8},
		{"any([1], # > 0)", "the function any is not supported, must be one of abs, float, header, int, json, len", 1, 1},
		{"now() == now()", "the function now is not supported", 1, 1},
		{"repeat('a', 1000000000) == ''", "the function repeat is not supported", 1, 1},
		{"let a = 1; a > 0", "only comparisons, arithmetic, lists and calls", 1, 5},
		{"true; true", "only comparisons, arithmetic, lists and calls", 1, 1},
		{"{a: 1} == {a: 1}", "only comparisons, arithmetic, lists and calls", 1, 1},
		{"'abc'[1:2] == 'b'", "only comparisons, arithmetic, lists and calls", 1, 6},
		{"b'a' == b'a'", "only comparisons, arithmetic, lists and calls", 1, 1},
		{"if true { true } else { false }", "if is not supported", 1, 4},
		{"$env == nil", "unknown name $env", 1, 1},
		{"$env.status == 1", "fields and items of a value are not supported", 1, 6},
		{"json('a').b == 1", "fields and items of a value are not supported", 1, 11},
		{"json('a')[0] == 1", "fields and items of a value are not supported", 1, 10},
		{"status.String() == ''", "methods are not supported", 1, 8},
		{"exit(1)", "unknown function exit, must be one of abs, float, header, int, json, len", 1, 1},
		{"header('a') + header('b') == ''", "one operand of + must be a number", 1, 13},
		{"json('a') + json('b') == ''", "one operand of + must be a number", 1, 11},
		{"(json('a') + 1) + (json('b') + 1) == 1", "one operand of + must be a number", 1, 17},
		// arguments and patterns
		{"header() == ''", "header must have one argument, a text in quotes, got 0", 1, 1},
		{"header('a', 'b') == ''", "header must have one argument, a text in quotes, got 2", 1, 1},
		{"header(grpc_status) == ''", "the argument of header must be a text in quotes", 1, 1},
		{"header('a b') == ''", "must be the name of a header field", 1, 8},
		{"header('') == ''", "must be the name of a header field, with 1 to 256 characters", 1, 8},
		{"json('a..b') == 1", "must be keys and numbers of items with dots between them", 1, 6},
		{"json('" + strings.Repeat("a.", maxPathDepth) + "a') == 1", "must have at most 32 parts, got 33", 1, 6},
		{"header('a') matches header('b')", "the pattern of matches must be a text in quotes", 1, 13},
		{"header('a') matches '('", "must be a regular expression of RE2: error parsing regexp: missing closing ): `(`", 1, 21},
		{"header('a') matches '((a{100}){10})b'", "the patterns must be simpler", 1, 21},
		{"header('a') matches 'a{600}' || header('a') matches 'b{600}'", "the patterns must be simpler", 1, 53},
		{"header('a') matches 'a{1001}'", "invalid repeat count", 1, 21},
	} {
		_, err := CompileFailureWhen(c.text)
		checkError(t, c.text, err, c.want, c.line, c.column)
	}
	_, err := CompileOpenWhen("header('a') == ''")
	checkError(t, "header in open_when", err, "unknown function header, must be one of abs, float, int, len", 1, 1)
	_, err = CompileOpenWhen("status == 1")
	checkError(t, "status in open_when", err, "unknown name status, must be one of requests, failures, consecutive_failures, connects, timeouts, resets, "+
		"statuses, failure_ratio, slow_ratio, p50, p95, p99, abs, float, int, len", 1, 1)
}

// The work of compiling is bounded, too: expr's parser shares an operand of a < b < c, and its type checker visits it twice.
func TestCompileIsNotExponential(t *testing.T) {
	for _, nested := range [][3]string{{"(1<", "1", "<1 ? 1:2)"}, {"(", "status", " ?: 1)"}} {
		const depth = 150 // 2^150 visits
		text := strings.Repeat(nested[0], depth) + nested[1] + strings.Repeat(nested[2], depth) + " == 1"
		if _, err := CompileFailureWhen(text); err == nil {
			t.Errorf("accepted %s…", text[:20])
		}
	}
}

// Deep nesting and the largest lists are refused or compiled; neither exhausts the stack.
func TestCompileBoundsTheTree(t *testing.T) {
	for text, want := range map[string]string{
		strings.Repeat("(", 4000):                                            "unexpected token EOF",
		strings.Repeat("(", 2000) + "true" + strings.Repeat(")", 2000):       "",
		strings.Repeat("!", 400) + "true":                                    "",
		strings.Repeat("!", 600) + "true":                                    "exceeds maximum allowed nodes",
		"status in [" + strings.Repeat("1,", 400) + "1]":                     "",
		"status in [" + strings.Repeat("1,", 600) + "1]":                     "exceeds maximum allowed nodes",
		strings.Repeat("true && ", 200) + "true":                             "",
		strings.Repeat("true && ", 300) + "true":                             "exceeds maximum allowed nodes",
		strings.Repeat("abs(", 200) + "1" + strings.Repeat(")", 200) + "==1": "",
	} {
		_, err := CompileFailureWhen(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.20s…: got %v, want %q", text, err, want)
		}
	}
}

// The functions of expr that expressions may call are a short list, so that a new version of expr does not add to it.
func TestBuiltins(t *testing.T) {
	if want := []string{"abs", "float", "int", "len"}; !slices.Equal(builtins, want) {
		t.Errorf("builtins are %v, want %v: document each in doc.go", builtins, want)
	}
}
