package expression

import (
	"strings"
	"testing"
)

func BenchmarkOpenWhen(b *testing.B) {
	for name, text := range map[string]string{
		"numeric": "requests >= 20 && (failure_ratio > 0.3 || p95 > 2)",
		"other":   "requests >= 20 && (failure_ratio > 0.3 || p95 > 2) && statuses in [1]",
	} {
		b.Run(name, func(b *testing.B) {
			o, err := CompileOpenWhen(text)
			if err != nil {
				b.Fatal(err)
			}
			var m Machine
			w := Window{Requests: 1000, Failures: 100, FailureRatio: 0.1, P95: 1.5}
			b.ReportAllocs()
			for b.Loop() {
				if got, err := o.Evaluate(&m, &w); got || err != nil {
					b.Fatal(got, err)
				}
			}
		})
	}
}

func BenchmarkFailureWhen(b *testing.B) {
	body := []byte(`{"items":[` + strings.Repeat(`{"id":1,"name":"x"},`, 100) + `{}],"error":{"code":"overloaded"}}`)
	for name, text := range map[string]string{
		"status": "status == 500",
		"header": "status == 200 && header('X-Error') != ''",
		"json":   "json('error.code') == 'other'",
	} {
		b.Run(name, func(b *testing.B) {
			f, err := CompileFailureWhen(text)
			if err != nil {
				b.Fatal(err)
			}
			r := Response{Status: 200, Header: map[string][]string{"Content-Type": {"application/json"}}, Body: body}
			b.ReportAllocs()
			for b.Loop() {
				if got, err := f.Evaluate(r); got || err != nil {
					b.Fatal(got, err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := CompileOpenWhen("requests >= 20 && (failure_ratio > 0.3 || p95 > 2)"); err != nil {
			b.Fatal(err)
		}
	}
}

// The number of allocations is deterministic, so its limits are a test.
func TestEvaluationAllocations(t *testing.T) {
	w, m := Window{Requests: 1000, FailureRatio: 0.1, P95: 1.5}, Machine{}
	r := Response{Status: 200, Header: map[string][]string{"A": {"x"}}, Body: []byte(`{"a":"x","b":[{},{},{},{},{},{}]}`)}
	for text, most := range map[string]float64{
		"requests >= 20 && (failure_ratio > 0.3 || p95 > 2)": 0,
		"requests in [1000] && failure_ratio in [0.1]":       2, // one for each variable
	} {
		o, err := CompileOpenWhen(text)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(1000, func() { _, _ = o.Evaluate(&m, &w) }); n > most {
			t.Errorf("%s: %v allocations, want at most %v", text, n, most)
		}
	}
	for text, most := range map[string]float64{"status == 200": 1, "header('a') == 'y'": 2, "json('a') == 'y'": 3} {
		f, err := CompileFailureWhen(text)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(1000, func() { _, _ = f.Evaluate(r) }); n > most {
			t.Errorf("%s: %v allocations, want at most %v", text, n, most)
		}
	}
}
