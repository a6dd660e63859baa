package fallbacks

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"text/template/parse"
)

// executor executes templates, for one request, as text/template does, over the only values that
// can occur here: nil, bool, string, json.Number, []any and map[string]any from the request, int,
// float64 and complex128 from literals, and what functions make of these: uint8 and int64 besides.
// text/template itself finds methods by their names at run time, for which the linker must keep
// each exported method in the binary: a third of it.
type executor struct {
	filling
	text      []byte     // of the template being executed
	variables []variable // those in scope, the innermost last
}

type variable struct {
	name  string
	value any
}

// null is a null that is part of a list or a map, unlike nil, which is also what is missing. Only
// "." and variables can be null, and to all but their fields that is nil.
type null struct{}

// part returns v, which is part of a list or a map.
func part(v any) any {
	if v == nil {
		return null{}
	}
	return v
}

// plain undoes part.
func plain(v any) any {
	if _, ok := v.(null); ok {
		return nil
	}
	return v
}

// Break and continue go up to their range as errors do.
var errBreak, errContinue = errors.New("break"), errors.New("continue")

// execute returns the text that a template makes.
func (e *executor) execute(root *parse.ListNode) (string, error) {
	e.text, e.variables = e.text[:0], append(e.variables[:0], variable{name: "$"})
	err := e.list(nil, root)
	return string(e.text), err
}

// evaluate returns the value of a template's only action.
func (e *executor) evaluate(action *parse.PipeNode) (any, error) {
	e.variables = append(e.variables[:0], variable{name: "$"})
	return e.pipe(nil, action)
}

func (e *executor) list(dot any, l *parse.ListNode) error {
	if l == nil {
		return nil
	}
	for _, n := range l.Nodes {
		if err := e.node(dot, n); err != nil {
			return err
		}
	}
	return nil
}

func (e *executor) node(dot any, n parse.Node) error {
	switch n := n.(type) {
	case *parse.TextNode:
		return write(e, n.Text)
	case *parse.ActionNode:
		return e.action(dot, n.Pipe)
	case *parse.IfNode:
		return e.branch(dot, &n.BranchNode)
	case *parse.WithNode:
		return e.branch(dot, &n.BranchNode)
	case *parse.RangeNode:
		return e.loop(dot, &n.BranchNode)
	case *parse.BreakNode:
		return errBreak
	case *parse.ContinueNode:
		return errContinue
	}
	return fmt.Errorf("can't execute %s", n)
}

// write adds to the text, which must not grow too long.
func write[T []byte | string](e *executor, part T) error {
	if len(e.text)+len(part) > maxTemplateText {
		return errLongText
	}
	e.text = append(e.text, part...)
	return nil
}

func (e *executor) action(dot any, pipe *parse.PipeNode) error {
	v, err := e.pipe(dot, pipe)
	if err != nil || len(pipe.Decl) > 0 {
		return err
	}
	text, err := textOf(v)
	if err != nil {
		return err
	}
	return write(e, text)
}

// branch executes if and with.
func (e *executor) branch(dot any, n *parse.BranchNode) error {
	defer e.leave(len(e.variables))
	v, err := e.pipe(dot, n.Pipe)
	switch {
	case err != nil:
		return err
	case !truth(v):
		return e.list(dot, n.ElseList)
	case n.NodeType == parse.NodeWith:
		return e.list(v, n.List)
	}
	return e.list(dot, n.List)
}

// loop executes range.
func (e *executor) loop(dot any, n *parse.BranchNode) error {
	defer e.leave(len(e.variables))
	over, err := e.pipe(dot, n.Pipe)
	if err != nil {
		return err
	}
	turns, err := turnsOver(over, len(n.Pipe.Decl))
	if err != nil {
		return err
	}
	empty, inner := true, len(e.variables)
	for key, element := range turns {
		empty = false
		e.turn(n.Pipe, key, element)
		err = e.list(element, n.List)
		e.leave(inner)
		if err != nil && err != errContinue {
			break
		}
		err = nil
	}
	if empty {
		err = e.list(dot, n.ElseList)
	}
	if err == errBreak {
		return nil
	}
	return err
}

// turn gives a range's variables, which its pipeline has made sure of, their values: to one the
// element, to two the key and the element.
func (e *executor) turn(pipe *parse.PipeNode, key, element any) {
	switch names := pipe.Decl; len(names) {
	case 1:
		*e.variable(names[0].Ident[0]) = element
	case 2:
		*e.variable(names[0].Ident[0]) = key
		*e.variable(names[1].Ident[0]) = element
	}
}

const maxTurns = 1 << 16

// turnsOver returns the keys and elements that a range with that many variables goes over.
func turnsOver(over any, variables int) (iter.Seq2[any, any], error) {
	if n, ok := whole(over); ok {
		if n > maxTurns {
			return nil, fmt.Errorf("range over %d, which is more than %d", n, maxTurns)
		}
		if variables > 1 {
			return nil, fmt.Errorf("range over a number has one variable, got %d", variables)
		}
	}
	switch over := over.(type) {
	case nil:
		return func(func(any, any) bool) {}, nil
	case int:
		return count(over), nil
	case int64:
		return count(over), nil
	case uint8:
		return count(over), nil
	case []any:
		return func(yield func(any, any) bool) {
			for i, v := range over {
				if !yield(i, part(v)) {
					return
				}
			}
		}, nil
	case map[string]any:
		return func(yield func(any, any) bool) {
			for _, key := range slices.Sorted(maps.Keys(over)) {
				if !yield(key, part(over[key])) {
					return
				}
			}
		}, nil
	}
	return nil, fmt.Errorf("range can't go over %s", kindOf(over))
}

func count[N int | int64 | uint8](n N) iter.Seq2[any, any] {
	return func(yield func(any, any) bool) {
		for i := N(0); i < n; i++ {
			if !yield(nil, i) {
				return
			}
		}
	}
}

// leave ends the scope of the variables after the first n.
func (e *executor) leave(n int) { e.variables = e.variables[:n] }

// variable returns the innermost variable of that name, nil if there is none: parsing only sees to
// it that it is declared or assigned somewhere before.
func (e *executor) variable(name string) *any {
	for i := len(e.variables) - 1; i >= 0; i-- {
		if e.variables[i].name == name {
			return &e.variables[i].value
		}
	}
	return nil
}

// pipe returns the value of a pipeline, and gives it to the variables that are declared or
// assigned there.
func (e *executor) pipe(dot any, pipe *parse.PipeNode) (any, error) {
	if err := e.done(); err != nil {
		return nil, err
	}
	var piped []any
	for _, command := range pipe.Cmds {
		v, err := e.command(dot, command, piped)
		if err != nil {
			return nil, err
		}
		piped = append(piped[:0], v)
	}
	for _, declared := range pipe.Decl {
		name := declared.Ident[0]
		if !pipe.IsAssign {
			e.variables = append(e.variables, variable{name, piped[0]})
			continue
		}
		v := e.variable(name)
		if v == nil {
			return nil, fmt.Errorf("undefined variable %s", name)
		}
		*v = piped[0]
	}
	return piped[0], nil
}

func (e *executor) command(dot any, command *parse.CommandNode, piped []any) (any, error) {
	if name, ok := command.Args[0].(*parse.IdentifierNode); ok {
		return e.call(dot, name.Ident, command.Args[1:], piped)
	}
	return e.operand(dot, command.Args[0])
}

// operand returns the value of what is not called with arguments.
func (e *executor) operand(dot any, n parse.Node) (any, error) {
	switch n := n.(type) {
	case *parse.DotNode:
		return plain(dot), nil
	case *parse.NilNode:
		return nil, nil
	case *parse.BoolNode:
		return n.True, nil
	case *parse.StringNode:
		return n.Text, nil
	case *parse.NumberNode:
		return literal(n)
	case *parse.PipeNode:
		return e.pipe(dot, n)
	case *parse.IdentifierNode:
		return e.call(dot, n.Ident, nil, nil)
	case *parse.FieldNode:
		return fields(dot, n.Ident)
	case *parse.VariableNode:
		v := e.variable(n.Ident[0])
		if v == nil {
			return nil, fmt.Errorf("undefined variable %s", n.Ident[0])
		}
		return fields(*v, n.Ident[1:])
	case *parse.ChainNode:
		v, err := e.operand(dot, n.Node)
		if err != nil {
			return nil, err
		}
		return fields(v, n.Field)
	}
	return nil, fmt.Errorf("can't evaluate %s", n)
}

// literal returns the value of a literal number, whose spelling tells its type.
func literal(n *parse.NumberNode) (any, error) {
	switch {
	case n.IsComplex:
		return n.Complex128, nil
	case n.IsFloat && strings.ContainsAny(n.Text, ".eEpP") && n.Text[0] != '\'' && !isHex(n.Text):
		return n.Float64, nil
	case !n.IsInt || int64(int(n.Int64)) != n.Int64:
		return nil, fmt.Errorf("%s overflows int", n.Text)
	}
	return int(n.Int64), nil
}

// isHex reports whether the spelling is that of a whole number in which e is a digit.
func isHex(text string) bool {
	return (strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0X")) && !strings.ContainsAny(text, "pP")
}

// fields returns the field of a field and so on of v.
func fields(v any, names []string) (any, error) {
	for _, name := range names {
		var err error
		if v, err = field(v, name); err != nil {
			return nil, fmt.Errorf("field %s of %w", name, err)
		}
	}
	return plain(v), nil
}

// field returns a field of v: what is missing has all, and all are missing. Numbers have what
// json.Number has. An error says what v is.
func field(v any, name string) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		if value, ok := v[name]; ok {
			return part(value), nil
		}
		return nil, nil
	case json.Number:
		switch name {
		case "Float64":
			return v.Float64()
		case "Int64":
			return v.Int64()
		case "String":
			return v.String(), nil
		}
	}
	return nil, errors.New(kindOf(v))
}

// call calls a function with arguments and with what is piped into it. Parsing has seen to it that
// it takes that many.
func (e *executor) call(dot any, name string, nodes []parse.Node, piped []any) (any, error) {
	f := functions[name]
	args := make([]any, 0, len(nodes)+1)
	for _, n := range nodes {
		v, err := e.operand(dot, n)
		if err != nil {
			return nil, err
		}
		if number, ok := n.(*parse.NumberNode); ok && f.takes == wholes {
			v = int(number.Int64) // 1.0 is whole enough
		}
		if f.enough != nil && f.enough(v) {
			return v, nil
		}
		args = append(args, v)
	}
	args = append(args, piped...)
	for _, v := range args {
		if !f.takes.has(v) {
			return nil, fmt.Errorf("%s takes %s, got %s", name, f.takes, kindOf(v))
		}
	}
	v, err := f.call(&e.filling, args)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}
