package algorithm

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"cbproxy/internal/events"
	"cbproxy/internal/expression"
)

// ExpressionOptions are the options of the algorithm expression.
type ExpressionOptions struct {
	// Expression that opens the breaker if it is true after a call, such as requests >= 20 && (failure_ratio > 0.3 || p95 > 2).
	OpenWhen expression.OpenWhenText `yaml:"open_when"`
}

// Validate reports an expression that is missing or invalid.
func (o *ExpressionOptions) Validate(report func(path, message string)) {
	if o.OpenWhen == "" {
		report("open_when", "must be set if the algorithm is expression")
	} else if _, err := compileOpenWhen(o.OpenWhen); err != nil {
		report("open_when", err.Error())
	}
}

func init() {
	Register("expression", Factory{
		Options: func() any { return new(ExpressionOptions) },
		Used: func(l *Limits) bool {
			_, err := compileOpenWhen(l.Options.(*ExpressionOptions).OpenWhen)
			return err == nil
		},
		New:     func() Algorithm { return new(expressionAlgorithm) },
		Details: true,
		UsesDurations: func(l *Limits) bool {
			e, err := compileOpenWhen(l.Options.(*ExpressionOptions).OpenWhen)
			return err == nil && e.Uses("slow_ratio", "p50", "p95", "p99")
		},
	})
}

// openWhenCache has the latest compiled expressions by their text: each opening of a breaker makes a new algorithm.
var openWhenCache, _ = lru.New[expression.OpenWhenText, *expression.OpenWhen](256) // the only error is that of a size below 1

// compileOpenWhen returns the compiled expression.
func compileOpenWhen(text expression.OpenWhenText) (*expression.OpenWhen, error) {
	if e, ok := openWhenCache.Get(text); ok {
		return e, nil
	}
	e, err := expression.CompileOpenWhen(string(text))
	if err == nil {
		openWhenCache.Add(text, e)
	}
	return e, err
}

// expressionAlgorithm opens the breaker when an expression on the calls in a window of time is true.
type expressionAlgorithm struct {
	openWhen *expression.OpenWhen
	machine  expression.Machine
	window   window
	input    expression.Window // of the last evaluation
	err      error             // of the last evaluation

	shares      []float64 // of the percentiles that the expression uses, in ascending order
	seconds     []float64 // the percentiles, by the index in shares
	destination []*float64
}

// Configure implements Algorithm. An expression that has changed finds the counts of the previous one, and durations if that used
// percentiles, too.
func (a *expressionAlgorithm) Configure(now time.Duration, l *Limits) {
	a.openWhen, _ = compileOpenWhen(l.Options.(*ExpressionOptions).OpenWhen) // it was compiled for Used
	a.shares, a.destination = nil, nil
	for _, percentile := range []struct {
		name        string
		share       float64
		destination *float64
	}{{"p50", 0.5, &a.input.P50}, {"p95", 0.95, &a.input.P95}, {"p99", 0.99, &a.input.P99}} {
		if a.openWhen.Uses(percentile.name) {
			a.shares = append(a.shares, percentile.share)
			a.destination = append(a.destination, percentile.destination)
		}
	}
	a.seconds = make([]float64, len(a.shares))
	a.window.configure(now, l.Window)
	a.window.countDurations(len(a.shares) > 0)
}

// Observe implements Algorithm. An error in the evaluation does not open the breaker.
func (a *expressionAlgorithm) Observe(now time.Duration, call Observation) events.Cause {
	a.window.count(now, countsOf(call))
	a.window.countDuration(call.Duration)
	a.setInput(call.ConsecutiveFailures)
	open, err := a.openWhen.Evaluate(&a.machine, &a.input)
	a.err = err
	if open {
		return events.CauseExpression
	}
	return ""
}

// setInput sets the variables to the counts of the window, which has at least one call.
func (a *expressionAlgorithm) setInput(consecutiveFailures uint32) {
	c, in := a.window.sum, &a.input
	in.Requests, in.Failures, in.ConsecutiveFailures = int(c.requests), int(c.failures), int(consecutiveFailures)
	in.Connects, in.Timeouts, in.Resets, in.Statuses = int(c.connects), int(c.timeouts), int(c.resets), int(c.statuses)
	in.FailureRatio, in.SlowRatio = float64(c.failures)/float64(c.requests), float64(c.slow)/float64(c.requests)
	if d := a.window.durations; d != nil {
		d.sum.percentiles(d.calls, a.shares, a.seconds)
		for i, destination := range a.destination {
			*destination = a.seconds[i]
		}
	}
}

// Err implements Fallible.
func (a *expressionAlgorithm) Err() error { return a.err }

// Counts implements Algorithm.
func (a *expressionAlgorithm) Counts(now time.Duration) events.Counts {
	return a.window.counts(now).public()
}
