package expression

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// sameResult checks that the numeric form of an expression has the result of the virtual machine. It reports whether there is a
// numeric form.
func sameResult(t rapid.TB, text string, o *OpenWhen, w *Window) bool {
	if o.numeric == nil {
		return false
	}
	var m Machine
	want, err := o.program.run(&m.vm, w)
	if got := o.numeric(w); err != nil || got != want {
		t.Fatalf("%s with %+v: got %v, want %v, %v", text, *w, got, want, err)
	}
	return true
}

// drawWindow returns any Window that the breaker could have, and a few that it could not.
func drawWindow(t *rapid.T) *Window {
	count := rapid.IntRange(0, math.MaxUint32)
	if rapid.Bool().Draw(t, "few") {
		count = rapid.IntRange(0, 3)
	}
	ratio := rapid.OneOf(rapid.SampledFrom([]float64{0, 0.3, 0.5, 1, 2, 3}), rapid.Float64())
	w := &Window{
		Requests: count.Draw(t, "requests"), Failures: count.Draw(t, "failures"), ConsecutiveFailures: count.Draw(t, "consecutive"),
		Connects: count.Draw(t, "connects"), Timeouts: count.Draw(t, "timeouts"), Resets: count.Draw(t, "resets"), Statuses: count.Draw(t, "statuses"),
		FailureRatio: ratio.Draw(t, "ratio"), SlowRatio: ratio.Draw(t, "slow"), P50: ratio.Draw(t, "p50"), P95: ratio.Draw(t, "p95"), P99: ratio.Draw(t, "p99"),
	}
	return w
}

// drawNumber returns the text of a number, and drawBool that of a condition.
func drawNumber(t *rapid.T, depth int) string {
	if depth == 0 || rapid.Bool().Draw(t, "leaf") {
		return rapid.SampledFrom([]string{
			"0", "1", "2", "20", "0.3", "0.5", "1e300", "4294967295", "9007199254740993", "requests", "failures", "consecutive_failures",
			"connects", "timeouts", "resets", "statuses", "failure_ratio", "slow_ratio", "p50", "p95", "p99",
		}).Draw(t, "operand")
	}
	if rapid.IntRange(0, 4).Draw(t, "unary") == 0 {
		return rapid.SampledFrom([]string{"-", "+"}).Draw(t, "sign") + "(" + drawNumber(t, depth-1) + ")"
	}
	operator := rapid.SampledFrom([]string{"+", "-", "*", "/"}).Draw(t, "arithmetic")
	return "(" + drawNumber(t, depth-1) + " " + operator + " " + drawNumber(t, depth-1) + ")"
}

func drawBool(t *rapid.T, depth int) string {
	if depth == 0 || rapid.Bool().Draw(t, "comparison") {
		operator := rapid.SampledFrom([]string{"<", "<=", ">", ">=", "==", "!="}).Draw(t, "operator")
		return drawNumber(t, 2) + " " + operator + " " + drawNumber(t, 2)
	}
	a, b := "("+drawBool(t, depth-1)+")", "("+drawBool(t, depth-1)+")"
	switch rapid.IntRange(0, 3).Draw(t, "logical") {
	case 0:
		return a + rapid.SampledFrom([]string{" && ", " and "}).Draw(t, "and") + b
	case 1:
		return a + rapid.SampledFrom([]string{" || ", " or "}).Draw(t, "or") + b
	case 2:
		return "!" + a
	}
	return a + " ? " + b + " : (" + drawBool(t, depth-1) + ")"
}

func TestNumericFormHasTheSameResult(t *testing.T) {
	numeric := 0
	rapid.Check(t, func(t *rapid.T) {
		text := drawBool(t, 2)
		o, err := CompileOpenWhen(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if sameResult(t, text, o, drawWindow(t)) {
			numeric++
		}
	})
	if numeric == 0 {
		t.Error("no expression had a numeric form")
	}
}

// What is not arithmetic and comparisons of exact numbers has no numeric form, and no panic either.
func TestNumericFormExists(t *testing.T) {
	for text, want := range map[string]bool{
		"requests >= 20 && (failure_ratio > 0.3 || p95 > 2)": true,
		"failures * 100 / requests >= 30":                    true,
		"not (requests < 20) and true":                       true,
		"requests > 1 ? p95 > 1 : p99 > 2":                   true,
		"requests * failures > 1":                            false, // 2^64
		"requests + 9007199254740993 > 1":                    false,
		"requests % 2 == 0":                                  false,
		"requests in [1, 2]":                                 false,
		"abs(failures - requests) > 1":                       false,
		"int(p95) == 1":                                      false,
		"(p95 ?? 1) > 2":                                     false,
		"requests != nil":                                    false,
	} {
		o, err := CompileOpenWhen(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := o.numeric != nil; got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
		sameResult(t, text, o, &Window{Requests: 3, Failures: 2, P95: 1.5})
	}
}
