package template

import (
	"fmt"
	"regexp"
	"strings"
	"text/template/parse"
)

// checker parses a template and finds errors that text/template reports only during execution, so
// that they are found when the configuration is loaded. It also rejects what could make
// execution unbounded.
type checker struct {
	tree     *parse.Tree
	usesJSON bool
	dotDepth int // the number of enclosing {{range}} and {{with}} nodes, in which "." is set
	failures []string
}

var errorPosition = regexp.MustCompile(`^:[0-9]+:([0-9]+:)? `)

// check checks the template at the given path of the body.
func check(path, text string) *checker {
	c := &checker{}
	trees := map[string]*parse.Tree{}
	t, err := parse.New(path).Parse(text, "", "", trees, functionNames)
	if err != nil {
		c.fail("%s", errorPosition.ReplaceAllString(strings.TrimPrefix(err.Error(), "template: "+path), ""))
		return c
	}
	if len(trees) > 1 || trees[path] != t {
		c.fail(noNestedTemplates)
	}
	c.tree = t
	c.list(t.Root)
	return c
}

// noNestedTemplates is the error for named templates, which could be recursive.
const noNestedTemplates = "define, block and template can't be used here"

func (c *checker) fail(format string, args ...any) {
	c.failures = append(c.failures, fmt.Sprintf(format, args...))
}

func (c *checker) list(l *parse.ListNode) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		c.node(n)
	}
}

func (c *checker) node(n parse.Node) {
	switch n := n.(type) {
	case *parse.ActionNode:
		c.pipe(n.Pipe)
	case *parse.IfNode:
		c.pipe(n.Pipe)
		c.list(n.List)
		c.list(n.ElseList)
	case *parse.WithNode:
		c.scope(&n.BranchNode)
	case *parse.RangeNode:
		c.scope(&n.BranchNode)
	case *parse.TemplateNode:
		c.fail(noNestedTemplates)
	}
}

// scope checks a node that sets ".".
func (c *checker) scope(n *parse.BranchNode) {
	c.pipe(n.Pipe)
	c.dotDepth++
	c.list(n.List)
	c.dotDepth--
	c.list(n.ElseList)
}

func (c *checker) pipe(pipe *parse.PipeNode) {
	for i, command := range pipe.Cmds {
		first, args, piped := command.Args[0], command.Args[1:], min(i, 1)
		name, isFunction := first.(*parse.IdentifierNode)
		switch {
		case isFunction:
			c.call(name.Ident, args, piped)
		case len(args)+piped > 0:
			c.fail("%s is not a function and takes no arguments", first)
		case first.Type() == parse.NodeNil:
			c.fail("nil is not a command")
		default:
			c.operand(first)
		}
		for _, arg := range args {
			c.operand(arg)
		}
	}
}

// operand checks a node that is not called with arguments.
func (c *checker) operand(n parse.Node) {
	switch n := n.(type) {
	case *parse.PipeNode:
		c.pipe(n)
	case *parse.ChainNode:
		c.operand(n.Node)
	case *parse.IdentifierNode:
		c.call(n.Ident, nil, 0)
	case *parse.NumberNode:
		if overflows(n) {
			c.fail("%s overflows int", n.Text)
		}
	case *parse.VariableNode:
		if n.Ident[0] == "$" {
			c.fail("$ has no value")
		}
	case *parse.DotNode, *parse.FieldNode:
		if c.dotDepth == 0 {
			c.fail("%s has a value only within range and with", n)
		}
	}
}

// overflows reports whether a literal is an integer that does not fit into an int. text/template
// takes a literal for a float by its spelling.
func overflows(n *parse.NumberNode) bool {
	hex := strings.HasPrefix(strings.ToLower(n.Text), "0x") && !strings.ContainsAny(n.Text, "pP")
	if n.IsComplex || n.IsFloat && !hex && n.Text[0] != '\'' && strings.ContainsAny(n.Text, ".eEpP") {
		return false
	}
	return !n.IsInt || int64(int(n.Int64)) != n.Int64
}

// call checks a function call: the number of arguments, including a piped one, and the types of
// literal arguments.
func (c *checker) call(name string, args []parse.Node, piped int) {
	c.usesJSON = c.usesJSON || name == "json"
	if name == "printf" {
		c.format(args)
		return
	}
	s := signatures[name]
	if n := len(args) + piped; n < s.min || n > s.max {
		c.fail("%s takes %s, got %d", name, s.arguments(), n)
		return
	}
	for _, arg := range args {
		number, isNumber := arg.(*parse.NumberNode)
		isString, isOther := arg.Type() == parse.NodeString, arg.Type() == parse.NodeBool || arg.Type() == parse.NodeNil
		switch {
		case s.takes == integers && (isString || isOther || isNumber && !number.IsInt):
			c.fail("%s takes a whole number, got %s", name, arg)
		case s.takes == stringArgs && (isNumber || isOther):
			c.fail("%s takes a quoted string, got %s", name, arg)
		}
	}
}

var (
	verb     = regexp.MustCompile(`%[^a-zA-Z%]*[a-zA-Z%]?`)
	wideVerb = regexp.MustCompile(`[0-9]{4}|\*`)
)

const maxVerbs = 32

// format checks the format of printf. It must be a literal with bounded widths, because fmt.Sprintf
// builds the whole text before its length can be checked.
func (c *checker) format(args []parse.Node) {
	var format *parse.StringNode
	if len(args) > 0 {
		format, _ = args[0].(*parse.StringNode)
	}
	if format == nil {
		c.fail("printf takes its format as text in quotes")
		return
	}
	verbs := verb.FindAllString(format.Text, -1)
	if len(verbs) > maxVerbs {
		c.fail("printf takes a format with at most %d verbs, got %d", maxVerbs, len(verbs))
	}
	for _, v := range verbs {
		if wideVerb.MatchString(v) {
			c.fail("printf takes widths and precisions of at most 3 digits, got %s", v)
		}
	}
}
