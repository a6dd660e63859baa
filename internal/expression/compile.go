package expression

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"
)

const (
	maxText      = 4 << 10 // bytes of an expression
	maxNodes     = 500     // of its syntax tree
	maxListItems = 10_000  // of the lists that one evaluation builds
)

// Error is an error in an expression, or in its evaluation.
type Error struct {
	Message string
	// Line and Column are the position within the expression, counted from 1. Columns are characters.
	Line, Column int
}

// Error returns the message and the position within the expression.
func (e *Error) Error() string {
	if e.Line > 1 {
		return fmt.Sprintf("%s (line %d, column %d of the expression)", e.Message, e.Line, e.Column)
	}
	return fmt.Sprintf("%s (column %d of the expression)", e.Message, e.Column)
}

// environment is what the expressions of one kind may use.
type environment struct {
	value     any                      // a pointer to the struct that an evaluation gets; its fields with an expr tag are the variables
	variables []string                 // the names in the tags
	functions map[string]checkArgument // functions with one argument, a text in quotes
	options   []expr.Option            // the definitions of the functions, which take the environment and the number of the call
}

// checkArgument checks the text with which a function is called. It returns what the text must be, "" if it is valid.
type checkArgument func(text string) (want string)

// program is a compiled expression. It is immutable.
type program struct {
	code  *vm.Program
	names map[string]bool // the variables and functions that it uses
	calls []call          // of functions of the environment, by the number that the function gets
}

// call is one call of a function of the environment.
type call struct{ function, argument string }

// compile returns the program of text. The error is an *Error.
func compile(text string, env *environment) (p *program, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, &Error{Message: firstLine(fmt.Sprint(r)), Line: 1, Column: 1}
		}
	}()
	switch {
	case strings.TrimSpace(text) == "":
		return nil, &Error{Message: "must not be empty", Line: 1, Column: 1}
	case len(text) > maxText:
		return nil, &Error{Message: fmt.Sprintf("must have at most %d bytes, got %d", maxText, len(text)), Line: 1, Column: 1}
	case !utf8.ValidString(text):
		return nil, &Error{Message: "must be UTF-8", Line: 1, Column: 1}
	}
	// The syntax is checked before expr's type checker sees it, because the time of that is exponential for some expressions.
	config := conf.CreateNew()
	config.MaxNodes = maxNodes
	tree, err := parser.ParseWithConfig(text, config)
	if err != nil {
		return nil, errorOf(err)
	}
	r := &restrictor{env: env, source: tree.Source, names: map[string]bool{}, seen: map[ast.Node]bool{}}
	if r.check(tree.Node); r.err != nil {
		return nil, r.err
	}
	b := &binder{source: tree.Source}
	options := append([]expr.Option{expr.Env(env.value), expr.AsBool(), expr.WarnOnAny(), expr.MaxNodes(maxNodes), expr.DisableAllBuiltins(), expr.Patch(b)}, env.options...)
	for _, name := range builtins {
		options = append(options, expr.EnableBuiltin(name))
	}
	code, err := expr.Compile(text, options...)
	switch {
	case err != nil:
		return nil, errorOf(err)
	case b.err != nil:
		return nil, b.err
	}
	return &program{code: code, names: r.names, calls: b.calls}, nil
}

// run evaluates the program. It does not panic. The error is an *Error.
func (p *program) run(m *vm.VM, env any) (result bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			result, err = false, &Error{Message: firstLine(fmt.Sprint(r)), Line: 1, Column: 1}
		}
	}()
	m.MemoryBudget = maxListItems
	out, err := m.Run(p.code, env)
	if err != nil {
		return false, errorOf(err)
	}
	result, ok := out.(bool)
	if !ok {
		return false, &Error{Message: fmt.Sprintf("the result must be a bool, got %T", out), Line: 1, Column: 1}
	}
	return result, nil
}

// errorOf returns an error of expr as an Error, without the excerpt of the expression.
func errorOf(err error) *Error {
	var e *file.Error
	if errors.As(err, &e) {
		return &Error{Message: firstLine(e.Message), Line: max(e.Line, 1), Column: e.Column + 1}
	}
	message := firstLine(err.Error())
	if got, found := strings.CutPrefix(message, "expected bool, but got "); found {
		message = "must be true or false, such as a comparison, got a value of type " + strings.Replace(got, "interface {}", "any", 1)
	}
	return &Error{Message: message, Line: 1, Column: 1}
}

// errorAt returns an Error with the position of a node.
func errorAt(source file.Source, at ast.Node, format string, args ...any) *Error {
	e := (&file.Error{Location: at.Location()}).Bind(source)
	return &Error{Message: fmt.Sprintf(format, args...), Line: e.Line, Column: e.Column + 1}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
