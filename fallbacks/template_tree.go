package fallbacks

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"
)

// parser makes a template's tree what a filler can execute: the value of each action goes
// through a function that bounds it, and so does that of each range. It finds faults that
// would otherwise come to light only when the answer is needed.
type parser struct {
	functions template.FuncMap
	tree      *parse.Tree
	typed     bool // the template is one action
	usesJSON  bool
	scopes    int // range and with around the node, within which "." has a value
	faults    []string
}

// The functions that a parser adds. Templates can't name them.
const (
	textFunction  = "_text"
	valueFunction = "_value"
	rangeFunction = "_range"
)

var placeOfError = regexp.MustCompile(`^:[0-9]+:([0-9]+:)? `)

func parseTemplate(path, text string, functions template.FuncMap) *parser {
	p := &parser{functions: functions}
	t, err := template.New(path).Funcs(functions).Parse(text)
	if err != nil {
		p.fault("%s", placeOfError.ReplaceAllString(strings.TrimPrefix(err.Error(), "template: "+path), ""))
		return p
	}
	if len(t.Templates()) > 1 {
		p.fault(noTemplates)
	}
	p.tree = t.Tree
	if nodes := t.Root.Nodes; len(nodes) == 1 {
		action, ok := nodes[0].(*parse.ActionNode)
		p.typed = ok && len(action.Pipe.Decl) == 0
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
		switch {
		case len(n.Pipe.Decl) > 0: // has no output
		case p.typed:
			add(n.Pipe, valueFunction)
		default:
			add(n.Pipe, textFunction)
		}
	case *parse.IfNode:
		p.pipe(n.Pipe)
		p.list(n.List)
		p.list(n.ElseList)
	case *parse.WithNode:
		p.scope(&n.BranchNode)
	case *parse.RangeNode:
		p.scope(&n.BranchNode)
		add(n.Pipe, rangeFunction)
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

// add appends a function to a pipeline.
func add(pipe *parse.PipeNode, function string) {
	pipe.Cmds = append(pipe.Cmds, &parse.CommandNode{
		NodeType: parse.NodeCommand,
		Args:     []parse.Node{parse.NewIdentifier(function).SetPos(pipe.Pos)},
	})
}

func (p *parser) pipe(pipe *parse.PipeNode) {
	for i, command := range pipe.Cmds {
		piped := 0
		if i > 0 {
			piped = 1
		}
		if name, ok := command.Args[0].(*parse.IdentifierNode); ok {
			p.call(name.Ident, command.Args[1:], piped)
		} else {
			p.operand(command.Args[0])
		}
		for _, arg := range command.Args[1:] {
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

// call checks a call of one of the functions here by how many arguments it has, piped ones
// among them, and by the types of the literal ones.
func (p *parser) call(name string, args []parse.Node, piped int) {
	p.usesJSON = p.usesJSON || name == "json"
	if name == "printf" {
		p.format(args)
	}
	function := reflect.TypeOf(p.functions[name])
	if function == nil || function.IsVariadic() {
		return
	}
	if got := len(args) + piped; got != function.NumIn() {
		noun := "arguments"
		if function.NumIn() == 1 {
			noun = "argument"
		}
		p.fault("%s takes %d %s, got %d", name, function.NumIn(), noun, got)
		return
	}
	for i, arg := range args {
		number, isNumber := arg.(*parse.NumberNode)
		isText, isOther := arg.Type() == parse.NodeString, arg.Type() == parse.NodeBool || arg.Type() == parse.NodeNil
		switch kind := function.In(i).Kind(); {
		case kind == reflect.Int && (isText || isOther || isNumber && !number.IsInt):
			p.fault("%s takes a whole number, got %s", name, arg)
		case kind == reflect.String && (isNumber || isOther):
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
