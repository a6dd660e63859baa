package fallbacks

import (
	"fmt"
	"regexp"
	"strings"
	"text/template/parse"
)

// parser finds the faults in a template that would otherwise come to light only when the answer
// is needed. What it lets through, an executor can execute.
type parser struct {
	root     *parse.ListNode
	value    *parse.PipeNode // of a template that is one action
	usesJSON bool
	scopes   int // range and with around the node, within which "." has a value
	faults   []string
}

// functionNames is what a parser of Go's wants to know of functions.
var functionNames = func() map[string]any {
	names := make(map[string]any, len(functions))
	for name := range functions {
		names[name] = true
	}
	return names
}()

var placeOfError = regexp.MustCompile(`^:[0-9]+:([0-9]+:)? `)

func parseTemplate(path, text string) *parser {
	p := &parser{}
	trees := map[string]*parse.Tree{}
	t, err := parse.New(path).Parse(text, "", "", trees, functionNames)
	if err != nil {
		p.fault("%s", placeOfError.ReplaceAllString(strings.TrimPrefix(err.Error(), "template: "+path), ""))
		return p
	}
	if len(trees) > 1 || trees[path] != t {
		p.fault(noTemplates)
	}
	p.root = t.Root
	if nodes := t.Root.Nodes; len(nodes) == 1 {
		if action, ok := nodes[0].(*parse.ActionNode); ok && len(action.Pipe.Decl) == 0 {
			p.value = action.Pipe
		}
	}
	p.list(t.Root)
	return p
}

const noTemplates = "define, block and template can't be used here" // a template that calls itself has no end

func (p *parser) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

func (p *parser) list(l *parse.ListNode) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		p.node(n)
	}
}

func (p *parser) node(n parse.Node) {
	switch n := n.(type) {
	case *parse.ActionNode:
		p.pipe(n.Pipe)
	case *parse.IfNode:
		p.pipe(n.Pipe)
		p.list(n.List)
		p.list(n.ElseList)
	case *parse.WithNode:
		p.scope(&n.BranchNode)
	case *parse.RangeNode:
		p.scope(&n.BranchNode)
	case *parse.TemplateNode:
		p.fault(noTemplates)
	}
}

// scope checks a node that sets ".".
func (p *parser) scope(n *parse.BranchNode) {
	p.pipe(n.Pipe)
	p.scopes++
	p.list(n.List)
	p.scopes--
	p.list(n.ElseList)
}

func (p *parser) pipe(pipe *parse.PipeNode) {
	for i, command := range pipe.Cmds {
		first, args, piped := command.Args[0], command.Args[1:], min(i, 1)
		name, isFunction := first.(*parse.IdentifierNode)
		switch {
		case isFunction:
			p.call(name.Ident, args, piped)
		case len(args)+piped > 0:
			p.fault("%s is not a function and takes no arguments", first)
		case first.Type() == parse.NodeNil:
			p.fault("nil is not a command")
		default:
			p.operand(first)
		}
		for _, arg := range args {
			p.operand(arg)
		}
	}
}

// operand checks what is not called with arguments.
func (p *parser) operand(n parse.Node) {
	switch n := n.(type) {
	case *parse.PipeNode:
		p.pipe(n)
	case *parse.ChainNode:
		p.operand(n.Node)
	case *parse.IdentifierNode:
		p.call(n.Ident, nil, 0)
	case *parse.NumberNode:
		if _, err := literal(n); err != nil {
			p.fault("%s", err)
		}
	case *parse.VariableNode:
		if n.Ident[0] == "$" {
			p.fault("$ has no value")
		}
	case *parse.DotNode, *parse.FieldNode:
		if p.scopes == 0 {
			p.fault("%s has a value only within range and with", n)
		}
	}
}

// call checks a call by how many arguments it has, piped ones among them, and by the kinds of the
// literal ones.
func (p *parser) call(name string, args []parse.Node, piped int) {
	p.usesJSON = p.usesJSON || name == "json"
	if name == "printf" {
		p.format(args)
		return
	}
	f := functions[name]
	if got := len(args) + piped; got < f.least || got > f.most {
		p.fault("%s takes %s, got %d", name, f.arity(), got)
		return
	}
	for _, arg := range args {
		number, isNumber := arg.(*parse.NumberNode)
		isText, isOther := arg.Type() == parse.NodeString, arg.Type() == parse.NodeBool || arg.Type() == parse.NodeNil
		switch {
		case f.takes == wholes && (isText || isOther || isNumber && !number.IsInt):
			p.fault("%s takes a whole number, got %s", name, arg)
		case f.takes == texts && (isNumber || isOther):
			p.fault("%s takes text in quotes, got %s", name, arg)
		}
	}
}

var (
	verb     = regexp.MustCompile(`%[^a-zA-Z%]*[a-zA-Z%]?`)
	wideVerb = regexp.MustCompile(`[0-9]{4}|\*`)
)

const maxVerbs = 32

// format checks the format of printf, which makes all of its text before its length can be
// looked at: it must be known, and can't ask for much.
func (p *parser) format(args []parse.Node) {
	var format *parse.StringNode
	if len(args) > 0 {
		format, _ = args[0].(*parse.StringNode)
	}
	if format == nil {
		p.fault("printf takes its format as text in quotes")
		return
	}
	verbs := verb.FindAllString(format.Text, -1)
	if len(verbs) > maxVerbs {
		p.fault("printf takes a format with at most %d verbs, got %d", maxVerbs, len(verbs))
	}
	for _, v := range verbs {
		if wideVerb.MatchString(v) {
			p.fault("printf takes widths and precisions of at most 3 digits, got %s", v)
		}
	}
}
