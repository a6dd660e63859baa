package expression

import (
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

// builtins are the functions of expr that expressions may call. None iterates over a value or copies one.
var builtins = []string{"abs", "float", "int", "len"}

var (
	unaryOperators  = []string{"!", "not", "-", "+"}
	binaryOperators = []string{
		"==", "!=", "<", "<=", ">", ">=", "and", "&&", "or", "||", "+", "-", "*", "/", "%", "??",
		"in", "contains", "startsWith", "endsWith", "matches",
	}
)

// restrictor checks that a syntax tree is within the language that the package accepts. It stops at the first error.
type restrictor struct {
	env     *environment
	source  file.Source
	names   map[string]bool   // the variables and functions that the tree uses
	seen    map[ast.Node]bool // the nodes that have been checked
	pattern int               // the size of all patterns
	err     *Error
}

func (r *restrictor) fail(at ast.Node, format string, args ...any) {
	if r.err == nil {
		r.err = errorAt(r.source, at, format, args...)
	}
}

// check checks a node and what is below it.
func (r *restrictor) check(n ast.Node) {
	if r.err != nil {
		return
	}
	if r.seen[n] {
		r.fail(n, "must not be an operand of two operators: write a < b && b < c instead of a < b < c, and a ? a : b instead of a ?: b")
		return
	}
	r.seen[n] = true
	switch n := n.(type) {
	case *ast.NilNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.StringNode:
	case *ast.IdentifierNode:
		r.variable(n)
	case *ast.UnaryNode:
		if !slices.Contains(unaryOperators, n.Operator) {
			r.fail(n, "the operator %s is not supported", n.Operator)
		}
		r.check(n.Node)
	case *ast.BinaryNode:
		r.binary(n)
	case *ast.ConditionalNode:
		if !n.Ternary {
			r.fail(n.Cond, "if is not supported, use condition ? a : b")
		}
		r.all(n.Cond, n.Exp1, n.Exp2)
	case *ast.ArrayNode:
		r.all(n.Nodes...)
	case *ast.BuiltinNode:
		if !slices.Contains(builtins, n.Name) {
			r.fail(n, "the function %s is not supported, must be one of %s", n.Name, strings.Join(r.functionNames(), ", "))
		}
		r.names[n.Name] = true
		r.all(n.Arguments...)
	case *ast.CallNode:
		r.call(n)
	case *ast.MemberNode:
		r.fail(n, "fields and items of a value are not supported")
	default:
		r.fail(n, "only comparisons, arithmetic, lists and calls of functions are supported")
	}
}

func (r *restrictor) all(nodes ...ast.Node) {
	for _, n := range nodes {
		r.check(n)
	}
}

func (r *restrictor) variable(n *ast.IdentifierNode) {
	switch {
	case slices.Contains(r.env.variables, n.Value):
		r.names[n.Value] = true
	case slices.Contains(r.functionNames(), n.Value):
		r.fail(n, "%s is a function and must be called", n.Value)
	default:
		r.fail(n, "unknown name %s, must be one of %s", n.Value, strings.Join(append(slices.Clone(r.env.variables), r.functionNames()...), ", "))
	}
}

func (r *restrictor) binary(n *ast.BinaryNode) {
	if !slices.Contains(binaryOperators, n.Operator) {
		r.fail(n, "the operator %s is not supported", n.Operator)
	}
	if n.Operator == "matches" {
		pattern, ok := n.Right.(*ast.StringNode)
		if !ok {
			r.fail(n, "the pattern of matches must be a text in quotes")
			return
		}
		size, err := patternSize(pattern.Value)
		if err != nil {
			r.fail(pattern, "%s", err)
		}
		if r.pattern += size; r.pattern > maxPatternSize {
			r.fail(pattern, "the patterns must be simpler: with repetitions written out, they have more than %d parts", maxPatternSize)
		}
	}
	r.all(n.Left, n.Right)
}

// call checks a call of a function of the environment.
func (r *restrictor) call(n *ast.CallNode) {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		r.fail(n, "methods are not supported")
		return
	}
	check, ok := r.env.functions[callee.Value]
	if !ok {
		r.fail(n, "unknown function %s, must be one of %s", callee.Value, strings.Join(r.functionNames(), ", "))
		return
	}
	if len(n.Arguments) != 1 {
		r.fail(n, "%s must have one argument, a text in quotes, got %d", callee.Value, len(n.Arguments))
		return
	}
	argument, ok := n.Arguments[0].(*ast.StringNode)
	if !ok {
		r.fail(n, "the argument of %s must be a text in quotes", callee.Value)
		return
	}
	if want := check(argument.Value); want != "" {
		r.fail(argument, "the argument of %s %s", callee.Value, want)
	}
	r.names[callee.Value] = true
	r.all(argument)
}

func (r *restrictor) functionNames() []string {
	names := slices.Clone(builtins)
	for name := range r.env.functions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// binder prepares a tree whose types are known for the compiler: a call f('text') becomes f($env, number of the call). It is an
// ast.Visitor.
type binder struct {
	source file.Source
	calls  []call
	err    *Error
}

// Visit implements ast.Visitor.
func (b *binder) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BinaryNode:
		// Texts that are added in a nested expression could grow without a limit.
		if n.Operator == "+" && !isNumber(n.Left) && !isNumber(n.Right) && b.err == nil {
			b.err = errorAt(b.source, n, "one operand of + must be a number: write float(a) + b if a may be a text")
		}
	case *ast.CallNode:
		callee, argument := n.Callee.(*ast.IdentifierNode), n.Arguments[0].(*ast.StringNode)
		c := call{callee.Value, argument.Value}
		number := slices.Index(b.calls, c)
		if number < 0 {
			number = len(b.calls)
			b.calls = append(b.calls, c)
		}
		ast.Patch(node, &ast.CallNode{
			Callee:    &ast.IdentifierNode{Value: callee.Value},
			Arguments: []ast.Node{&ast.IdentifierNode{Value: "$env"}, &ast.IntegerNode{Value: number}},
		})
	}
}
