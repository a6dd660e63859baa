package expression

import "github.com/expr-lang/expr/vm"

// Window has the variables of open_when. All are those of the breaker's window, but ConsecutiveFailures.
type Window struct {
	Requests            int     `expr:"requests"`
	Failures            int     `expr:"failures"`
	ConsecutiveFailures int     `expr:"consecutive_failures"`
	Connects            int     `expr:"connects"` // failures by type
	Timeouts            int     `expr:"timeouts"`
	Resets              int     `expr:"resets"`
	Statuses            int     `expr:"statuses"`
	FailureRatio        float64 `expr:"failure_ratio"` // of Requests
	SlowRatio           float64 `expr:"slow_ratio"`
	P50                 float64 `expr:"p50"` // percentiles of the duration in seconds
	P95                 float64 `expr:"p95"`
	P99                 float64 `expr:"p99"`
}

var windowEnvironment = &environment{value: &Window{}, variables: variablesOf[Window]()}

// OpenWhen is a compiled expression on a Window. It is immutable.
type OpenWhen struct {
	program *program
	numeric func(*Window) bool // the same, faster; nil: there is only program
}

// CompileOpenWhen compiles an expression on a Window. The error is an *Error.
func CompileOpenWhen(text string) (*OpenWhen, error) {
	p, err := compile(text, windowEnvironment)
	if err != nil {
		return nil, err
	}
	return &OpenWhen{p, numericProgram(p.code.Node())}, nil
}

// Uses reports whether the expression uses one of the variables.
func (o *OpenWhen) Uses(variables ...string) bool {
	for _, name := range variables {
		if o.program.names[name] {
			return true
		}
	}
	return false
}

// Machine has the memory of an evaluation. The zero value is ready to use. It is not safe for concurrent use.
type Machine struct{ vm vm.VM }

// Evaluate returns the result for w, whose counts are from 0 to 2^32 - 1. The error is an *Error.
func (o *OpenWhen) Evaluate(m *Machine, w *Window) (bool, error) {
	if o.numeric != nil {
		return o.numeric(w), nil
	}
	return o.program.run(&m.vm, w)
}
