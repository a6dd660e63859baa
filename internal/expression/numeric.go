package expression

import (
	"math"
	"reflect"

	"github.com/expr-lang/expr/ast"
)

// Most open_when expressions are arithmetic and comparisons of numbers, and they are evaluated after every call. numericProgram
// compiles those to functions, which are several times as fast as expr's virtual machine and allocate nothing. Their result is the
// same: counts are below 2^32, and an operation on integers is compiled only if no result exceeds maxExact.

// maxExact is the largest integer up to which float64 has every integer.
const maxExact = 1 << 53

// number is an operand. most bounds the absolute value of an integer.
type number struct {
	value   func(*Window) float64
	integer bool
	most    float64
}

// windowVariables are the variables of a Window.
var windowVariables = map[string]number{
	"requests":             count(func(w *Window) int { return w.Requests }),
	"failures":             count(func(w *Window) int { return w.Failures }),
	"consecutive_failures": count(func(w *Window) int { return w.ConsecutiveFailures }),
	"connects":             count(func(w *Window) int { return w.Connects }),
	"timeouts":             count(func(w *Window) int { return w.Timeouts }),
	"resets":               count(func(w *Window) int { return w.Resets }),
	"statuses":             count(func(w *Window) int { return w.Statuses }),
	"failure_ratio":        {value: func(w *Window) float64 { return w.FailureRatio }},
	"slow_ratio":           {value: func(w *Window) float64 { return w.SlowRatio }},
	"p50":                  {value: func(w *Window) float64 { return w.P50 }},
	"p95":                  {value: func(w *Window) float64 { return w.P95 }},
	"p99":                  {value: func(w *Window) float64 { return w.P99 }},
}

func count(value func(*Window) int) number {
	return number{value: func(w *Window) float64 { return float64(value(w)) }, integer: true, most: math.MaxUint32}
}

// numericProgram returns a function that evaluates a type-checked expression, nil if it is not of that kind.
func numericProgram(n ast.Node) func(*Window) bool {
	switch n := n.(type) {
	case *ast.BoolNode:
		return func(*Window) bool { return n.Value }
	case *ast.UnaryNode:
		operand := numericProgram(n.Node)
		if operand == nil || n.Operator != "!" && n.Operator != "not" {
			return nil
		}
		return func(w *Window) bool { return !operand(w) }
	case *ast.ConditionalNode:
		condition, a, b := numericProgram(n.Cond), numericProgram(n.Exp1), numericProgram(n.Exp2)
		if condition == nil || a == nil || b == nil {
			return nil
		}
		return func(w *Window) bool {
			if condition(w) {
				return a(w)
			}
			return b(w)
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "&&", "and", "||", "or":
			return logical(n)
		default:
			return comparison(n)
		}
	}
	return nil
}

func logical(n *ast.BinaryNode) func(*Window) bool {
	a, b := numericProgram(n.Left), numericProgram(n.Right)
	switch {
	case a == nil || b == nil:
		return nil
	case n.Operator == "&&" || n.Operator == "and":
		return func(w *Window) bool { return a(w) && b(w) }
	default:
		return func(w *Window) bool { return a(w) || b(w) }
	}
}

func comparison(n *ast.BinaryNode) func(*Window) bool {
	a, ok := operand(n.Left)
	b, alsoOK := operand(n.Right)
	if !ok || !alsoOK {
		return nil
	}
	x, y := a.value, b.value
	switch n.Operator {
	case "<":
		return func(w *Window) bool { return x(w) < y(w) }
	case "<=":
		return func(w *Window) bool { return x(w) <= y(w) }
	case ">":
		return func(w *Window) bool { return x(w) > y(w) }
	case ">=":
		return func(w *Window) bool { return x(w) >= y(w) }
	case "==":
		return func(w *Window) bool { return x(w) == y(w) }
	case "!=":
		return func(w *Window) bool { return x(w) != y(w) }
	}
	return nil
}

// operand returns the number that n computes.
func operand(n ast.Node) (number, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		v, ok := windowVariables[n.Value]
		return v, ok
	case *ast.IntegerNode:
		// The type checker makes an integer a float where a float is needed.
		return constant(float64(n.Value), n.Type() == nil || n.Type().Kind() != reflect.Float64)
	case *ast.FloatNode:
		return constant(n.Value, false)
	case *ast.UnaryNode:
		v, ok := operand(n.Node)
		switch {
		case !ok || n.Operator == "+":
			return v, ok
		case n.Operator == "-":
			value := v.value
			v.value = func(w *Window) float64 { return -value(w) }
			return v, !v.integer || v.most > 0 // there is no integer -0
		}
	case *ast.BinaryNode:
		return arithmetic(n)
	}
	return number{}, false
}

func constant(value float64, integer bool) (number, bool) {
	return number{value: func(*Window) float64 { return value }, integer: integer, most: math.Abs(value)}, !integer || math.Abs(value) <= maxExact
}

func arithmetic(n *ast.BinaryNode) (number, bool) {
	a, ok := operand(n.Left)
	b, alsoOK := operand(n.Right)
	if !ok || !alsoOK {
		return number{}, false
	}
	x, y := a.value, b.value
	result := number{integer: a.integer && b.integer}
	switch n.Operator {
	case "+":
		result.value, result.most = func(w *Window) float64 { return x(w) + y(w) }, a.most+b.most
	case "-":
		result.value, result.most = func(w *Window) float64 { return x(w) - y(w) }, a.most+b.most
	case "*":
		result.value, result.most = func(w *Window) float64 { return x(w) * y(w) }, a.most*b.most
	case "/":
		return number{value: func(w *Window) float64 { return x(w) / y(w) }}, true
	default:
		return number{}, false
	}
	return result, !result.integer || result.most <= maxExact
}
