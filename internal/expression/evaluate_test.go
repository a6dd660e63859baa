package expression

import (
	"strings"
	"sync"
	"testing"
)

// response is the response of TestFailureWhen.
var response = Response{
	Status:     200,
	Header:     map[string][]string{"X-Error": {"quota", "other"}, "X-Load": {"0.93"}, "X-Empty": {""}, "X-Long": {strings.Repeat("a", maxValue+1)}},
	GRPCStatus: "UNAVAILABLE",
	Body: []byte(`{"error": {"code": "overloaded", "retry": true, "a.b": 1, "": 2, "back\\slash": 3}, "load": 3.5, "n": null, "s": "7",
		"items": [{"id": 1}, "x", [2, 3]], "0": "zero", "dup": {"a": 1}, "dup": {"b": 2}, "\u0065": "escaped", "ü": "ü", "huge": 1e999,
		"wide": {"n": 1e999}, "long": "` + strings.Repeat("a", maxValue) + `"}`),
}

func TestFailureWhen(t *testing.T) {
	const failed = "error: "
	for text, want := range map[string]string{
		"status == 200 && header('X-Error') != ''": "true",
		"header('x-error') == 'quota'":             "true", // the first line
		"header('X-None') == ''":                   "true",
		"header('X-Empty') == ''":                  "true",
		"header('x-long') == ''":                   failed + "the header field X-Long has more than 65536 bytes",
		"float(header('X-Load')) > 0.9":            "true",
		"float(header('X-None')) > 0.9":            failed + "invalid operation: float()",
		"header('X-Error') matches '(?i)^QUOTA$'":  "true",
		"header('X-Error') not contains 'quo'":     "false",
		"status in [500, 200]":                     "true",
		"status not in [500, 200]":                 "false",
		"grpc_status == 'UNAVAILABLE'":             "true",
		"status % (status - 200) == 1":             failed + "integer divide by zero",
		"status / 0 > 1":                           "true", // infinite

		"json('error.code') == 'overloaded'":                "true",
		"json('error.retry') == true":                       "true",
		"json('error.retry') && true":                       "true",
		"json('error.a\\\\.b') == 1":                        "true",
		"json('error.back\\\\\\\\slash') == 3":              "true",
		"json('error.none.deeper') == nil":                  "true",
		"json('n') == nil":                                  "true",
		"json('load') > 3":                                  "true",
		"json('load') == 3.5":                               "true",
		"json('items.0.id') == 1":                           "true",
		"json('items.2.1') == 3":                            "true",
		"json('items.00.id') == nil":                        "true",
		"json('items.9') == nil":                            "true",
		"json('items.-1') == nil":                           "true",
		"json('items.x') == nil":                            "true",
		"json('0') == 'zero'":                               "true",
		"json('dup.a') == nil && json('dup.b') == 2":        "true", // the last of two equal keys
		"json('e') == 'escaped'":                            "true",
		"json('ü') == 'ü'":                                  "true",
		"len(json('items')) == 3":                           "true",
		"'x' in json('items')":                              "true",
		"'code' in json('error')":                           "true",
		"json('huge') > 1":                                  "true", // infinite
		"json('wide') == nil":                               failed + "the value in the body",
		"json('long') == nil":                               failed + "the value in the body has more than 65536 bytes",
		"status == 200 || json('long') == nil":              "true", // not evaluated
		"json('error') != nil && json('error.code') != nil": "true", // both a value and a part of a path
		"json('load') + 1 == 4.5":                           "true",
		"(json('none') ?? 5) == 5":                          "true",
		"int(json('s')) == 7":                               "true",
		"status == 200 && json('none')":                     "false",
		"status == 200 && json('s')":                        failed + "bool(string)",
		"json('s') && status == 200":                        failed + "not bool",
		"!json('none')":                                     failed + "nil, not bool",
		"json('s') == 7":                                    "false", // of different types
		"json('s') != 7":                                    "true",
		"json('s') > 3":                                     failed + "string > int",
		"json('none') > 3":                                  failed + "<nil> > int",
		"json('none') < json('none')":                       failed + "<nil> < <nil>",
		"json('items') < json('error')":                     failed + "[]interface {} < map[string]interface {}",
		"json('items') == json('items')":                    "true",
		"json('items') == json('error')":                    "false",
		"json('none') contains 'a'":                         "false",
		"json('load') contains 'a'":                         failed + "float64, not string",
		"json('load') matches 'a'":                          failed + "float64, not []uint8",
		"json('none') in json('none')":                      "false",
		"json('load') in json('error')":                     failed + "reflect",
		"json('items') in json('error')":                    failed + "reflect",
		"len(json('none')) == 0":                            failed + "invalid argument for len",
		"abs(json('s')) == 7":                               failed + "invalid argument for abs",
		"-json('s') == 7":                                   failed + "invalid operation: - string",
		"json('s') + 1 == 8":                                failed + "string + int",
	} {
		f, err := CompileFailureWhen(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for range 2 { // the second evaluation uses the memory of the first
			result, err := f.Evaluate(response)
			got := map[bool]string{true: "true", false: "false"}[result]
			if err != nil {
				got = failed + err.Error()
			}
			if message, fails := strings.CutPrefix(want, failed); got != want && !(fails && err != nil && strings.Contains(err.Error(), message)) {
				t.Errorf("%s: got %s, want %s", text, got, want)
			}
		}
	}
}

// json returns nil unless the body is a JSON document within the limits.
func TestBodiesThatAreNotJSON(t *testing.T) {
	f, err := CompileFailureWhen("json('a') == 1")
	if err != nil {
		t.Fatal(err)
	}
	nested := func(n int) string {
		return `{"a":1,"b":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}"
	}
	for body, want := range map[string]bool{
		`{"a":1}`: true, " {\"a\" :\t1 }\r\n": true, nested(maxBodyDepth): true, nested(maxBodyDepth + 1): false,
		"": false, `{"a":1`: false, `{"a":1}x`: false, `{"a":1}{}`: false, `{'a':1}`: false, `{"a":01}`: false, "null": false, "[]": false, `"a"`: false,
		"\x1f\x8b": false, "{": false, `{"a":1,}`: false, `{"a`: false, `{"a\`: false, `{"a":1}` + strings.Repeat(" ", maxBody): false,
	} {
		if got, err := f.Evaluate(Response{Body: []byte(body)}); got != want || err != nil {
			t.Errorf("%.40q: got %v, %v, want %v", body, got, err, want)
		}
	}
	if got, err := f.Evaluate(Response{}); got || err != nil {
		t.Errorf("no body: got %v, %v", got, err)
	}
}

// UsesBody and UsesGRPCStatus tell the caller what it must provide.
func TestUses(t *testing.T) {
	for text, want := range map[string][2]bool{
		"status == 200":                          {false, false},
		"header('a') == 'json'":                  {false, false},
		"json('a') == 1":                         {true, false},
		"status == 200 && len(json('a')) > 1":    {true, false},
		"grpc_status == 'OK' || status == 1":     {false, true},
		"'grpc_status' == header('grpc_status')": {false, false},
	} {
		f, err := CompileFailureWhen(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{f.UsesBody(), f.UsesGRPCStatus()}; got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

// The body is scanned at most once for a response, and only when json is evaluated.
func TestBodyIsScannedOnce(t *testing.T) {
	f, err := CompileFailureWhen("status == 500 && (json('a') == 2 || json('b') == 3 || json('a') == 1)")
	if err != nil {
		t.Fatal(err)
	}
	env := &responseEnv{program: f, values: make([]any, len(f.program.calls)), Status: 200, body: []byte(`{"a":1,"b":2}`)}
	if result, err := f.program.run(&env.vm, env); result || err != nil || env.scanned {
		t.Errorf("got %v, %v, scanned %v", result, err, env.scanned)
	}
	env.Status = 500
	if _, err = env.jsonValue(0); err != nil {
		t.Fatal(err)
	}
	env.body = nil // a second scan would find nothing
	if result, err := f.program.run(&env.vm, env); !result || err != nil {
		t.Errorf("got %v, %v: the body was scanned again", result, err)
	}
}

func TestOpenWhen(t *testing.T) {
	w := Window{Requests: 20, Failures: 5, ConsecutiveFailures: 2, Connects: 1, Timeouts: 2, Resets: 1, Statuses: 1, FailureRatio: 0.25, SlowRatio: 0.1, P50: 0.2, P95: 1.5, P99: 2.5}
	var m Machine
	for text, want := range map[string]bool{
		"requests >= 20 && (failure_ratio > 0.3 || p95 > 2)": false,
		"requests >= 20 && (failure_ratio > 0.2 || p95 > 2)": true,
		"requests >= 20 and p99 > 2":                         true,
		"requests == 20 && failures == 5 && consecutive_failures == 2 && connects == 1 && timeouts == 2 && resets == 1 && statuses == 1": true,
		"failure_ratio == 0.25 && slow_ratio == 0.1 && p50 == 0.2 && p95 == 1.5 && p99 == 2.5":                                           true,
		"(connects + timeouts) / requests >= 0.15":                                                                                       true,
	} {
		o, err := CompileOpenWhen(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := o.Evaluate(&m, &w); got != want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	o, err := CompileOpenWhen("requests % connects == 0 && p95 > 1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = o.Evaluate(&m, &Window{})
	checkError(t, "modulo", err, "integer divide by zero", 1, 10)
	if !o.Uses("p50", "p95") || o.Uses("p50", "p99") {
		t.Error("Uses does not name the variables of the expression")
	}
}

// A FailureWhen may be evaluated on several goroutines.
func TestFailureWhenIsSafeForConcurrentUse(t *testing.T) {
	f, err := CompileFailureWhen("json('a') == header('A')")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			value := strings.Repeat("x", i+1)
			for range 200 {
				r := Response{Header: map[string][]string{"A": {value}}, Body: []byte(`{"a":"` + value + `"}`)}
				if got, err := f.Evaluate(r); !got || err != nil {
					t.Errorf("got %v, %v", got, err)
					return
				}
			}
		})
	}
	group.Wait()
}
