package template

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"text/template"
	"text/template/parse"

	"cbproxy/fallbacks"
)

// The limits on what templates produce.
const (
	maxString = 64 << 10 // bytes of one string, before it is encoded as JSON
	maxBody   = 1 << 20  // bytes of the whole body
	maxRange  = 1 << 16  // iterations of a range over a number
)

var (
	errStringTooLong = errors.New("a string is longer than 64 KiB")
	errBodyTooLong   = errors.New("the body is longer than 1 MiB")
)

// renderer renders a body. It is safe for concurrent use.
type renderer struct {
	body       body
	executions sync.Pool // of *execution
}

func newRenderer(b body) (*renderer, error) {
	for i := range b.templateStrings {
		instrument(b.templateStrings[i].tree.Root, b.templateStrings[i].singleAction)
	}
	r := &renderer{body: b}
	first, err := newExecution(b.templateStrings)
	if err != nil {
		return nil, err
	}
	r.executions.Put(first)
	return r, nil
}

// render returns the body for req.
func (r *renderer) render(ctx context.Context, req *fallbacks.Request) ([]byte, error) {
	e, ok := r.executions.Get().(*execution)
	if !ok {
		var err error
		if e, err = newExecution(r.body.templateStrings); err != nil {
			return nil, err
		}
	}
	e.execContext = execContext{ctx: ctx, request: req}
	var out bytes.Buffer
	for i := range r.body.templateStrings {
		f := &r.body.templateStrings[i]
		out.Write(f.prefix)
		if err := e.execute(&out, i, f.singleAction); err != nil {
			return nil, fmt.Errorf("render %s: %w", f.path, err)
		}
		if out.Len() > maxBody {
			return nil, errBodyTooLong
		}
	}
	if out.Write(r.body.tail); out.Len() > maxBody {
		return nil, errBodyTooLong
	}
	e.execContext, e.value = execContext{}, nil
	r.executions.Put(e) // not after an error, which is rare
	return out.Bytes(), nil
}

// execution executes the templates of a body for one request at a time. The functions of its
// templates use its execContext.
type execution struct {
	execContext
	templates []*template.Template // one for each templateString
	text      limitedBuffer
	value     any // of a template that is a single action
}

func newExecution(parts []templateString) (*execution, error) {
	e := &execution{templates: make([]*template.Template, len(parts))}
	set := template.New("").Funcs(e.functions()).Funcs(template.FuncMap{
		textFunction: toString, valueFunction: e.setValue, rangeFunction: e.checkRange, iterationFunction: e.checkIteration,
	})
	for i := range parts {
		var err error
		if e.templates[i], err = set.AddParseTree(parts[i].path, parts[i].tree); err != nil {
			return nil, fmt.Errorf("add the template %s: %w", parts[i].path, err)
		}
	}
	return e, nil
}

// execute appends the JSON of the string with index i.
func (e *execution) execute(out *bytes.Buffer, i int, singleAction bool) error {
	if err := e.done(); err != nil {
		return err
	}
	if singleAction {
		if err := e.templates[i].Execute(io.Discard, nil); err != nil {
			return err
		}
		if s, ok := e.value.(string); ok && len(s) > maxString {
			return errStringTooLong
		}
		return fallbacks.EncodeJSON(out, e.value)
	}
	e.text.Reset()
	if err := e.templates[i].Execute(&e.text, nil); err != nil {
		return err
	}
	return fallbacks.EncodeJSON(out, e.text.String())
}

// limitedBuffer is a buffer that does not grow beyond maxString bytes.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxString {
		return 0, errStringTooLong
	}
	return b.Buffer.Write(p)
}

// The names of the functions that instrument adds to templates. Templates can't call them
// themselves, because they are not in signatures.
const (
	textFunction      = "_text"
	valueFunction     = "_value"
	rangeFunction     = "_range"
	iterationFunction = "_iteration"
)

// instrument adds calls to a checked template: to the pipelines whose value is written, to those
// of ranges, and to the beginning of each iteration.
func instrument(l *parse.ListNode, singleAction bool) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			switch {
			case len(n.Pipe.Decl) > 0: // an assignment writes nothing
			case singleAction:
				appendCall(n.Pipe, valueFunction)
			default:
				appendCall(n.Pipe, textFunction)
			}
		case *parse.IfNode:
			instrumentBranch(&n.BranchNode, singleAction)
		case *parse.WithNode:
			instrumentBranch(&n.BranchNode, singleAction)
		case *parse.RangeNode:
			instrumentBranch(&n.BranchNode, singleAction)
			appendCall(n.Pipe, rangeFunction)
			n.List.Nodes = append([]parse.Node{iterationCheck(n.Pos)}, n.List.Nodes...)
		}
	}
}

func instrumentBranch(n *parse.BranchNode, singleAction bool) {
	instrument(n.List, singleAction)
	instrument(n.ElseList, singleAction)
}

// appendCall pipes the value of a pipeline into a function.
func appendCall(pipe *parse.PipeNode, function string) {
	pipe.Cmds = append(pipe.Cmds, call(function, pipe.Pos))
}

func call(function string, pos parse.Pos) *parse.CommandNode {
	return &parse.CommandNode{NodeType: parse.NodeCommand, Pos: pos, Args: []parse.Node{parse.NewIdentifier(function).SetPos(pos)}}
}

// iterationCheck returns {{if _iteration}}{{end}}, which writes nothing.
func iterationCheck(pos parse.Pos) parse.Node {
	pipe := &parse.PipeNode{NodeType: parse.NodePipe, Pos: pos, Cmds: []*parse.CommandNode{call(iterationFunction, pos)}}
	return &parse.IfNode{BranchNode: parse.BranchNode{NodeType: parse.NodeIf, Pos: pos, Pipe: pipe}}
}

// setValue keeps the value of a template that is a single action.
func (e *execution) setValue(v any) string {
	e.value = v
	return ""
}

// checkRange returns v, over which a range iterates, unless it is too large a number.
func (e *execution) checkRange(v any) (any, error) {
	var n int64
	switch v := v.(type) {
	case int:
		n = int64(v)
	case int64:
		n = v
	}
	if n > maxRange {
		return nil, fmt.Errorf("range over %d, which is more than %d", n, maxRange)
	}
	return v, nil
}

// checkIteration fails when the context is done. It returns false so that the {{if}} that instrument inserts writes nothing.
func (e *execution) checkIteration() (bool, error) { return false, e.done() }

// toString returns v as part of a string: "" if it is missing, compact JSON if it is a list or a map.
func toString(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case json.Number:
		return string(v), nil
	case map[string]any, []any:
		var b bytes.Buffer
		err := fallbacks.EncodeJSON(&b, v)
		return b.String(), err
	}
	return fmt.Sprint(v), nil
}
