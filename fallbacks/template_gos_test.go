package fallbacks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"
	"text/template/parse"
)

// gos fills one template in with text/template itself: its functions are those of the strategy,
// and of the value of each action is made what the strategy makes of it.
type gos struct {
	filling
	value any
	turns int
}

var errLongRun = errors.New("longer than a test needs")

const longRun = 100_000 // turns

// text makes of a function of ours one that text/template can call.
func (g *gos) text(function func(*filling, []any) (any, error)) any {
	return func(args ...any) (any, error) { return function(&g.filling, args) }
}

func (g *gos) functions() template.FuncMap {
	return template.FuncMap{
		"service": func() string { return g.request.Service }, "reason": func() string { return string(g.request.Reason) },
		"method": func() string { return g.request.Method }, "path": g.path, "query": g.query, "header": g.header, "json": g.json, "default": instead,
		"print": g.text(bounded(fmt.Sprint)), "println": g.text(bounded(fmt.Sprintln)), "html": g.text(bounded(template.HTMLEscaper)),
		"js": g.text(bounded(template.JSEscaper)), "urlquery": g.text(bounded(template.URLQueryEscaper)),
		"printf": func(format string, args ...any) (any, error) {
			return printf(&g.filling, append([]any{format}, args...))
		},
		"_text":  textOf,
		"_value": func(v any) string { g.value = v; return "" },
		"_range": func(v any) (any, error) {
			n, _ := length(v)
			if number, ok := whole(v); ok {
				n = int(min(max(number, 0), maxTurns+1))
			}
			if g.turns += n; n > maxTurns {
				return nil, errors.New("too many turns")
			} else if g.turns > longRun {
				return nil, errLongRun
			}
			return v, nil
		},
	}
}

// parse also returns whether the template is one action.
func (g *gos) parse(text string) (t *template.Template, typed bool, err error) {
	if t, err = template.New("body").Funcs(g.functions()).Parse(text); err != nil {
		return nil, false, err
	}
	if nodes := t.Root.Nodes; len(nodes) == 1 {
		action, ok := nodes[0].(*parse.ActionNode)
		typed = ok && len(action.Pipe.Decl) == 0
	}
	through(t.Root, typed)
	return t, typed, nil
}

// through makes the values of actions and ranges go through the functions for these.
func through(l *parse.ListNode, typed bool) {
	if l == nil {
		return
	}
	add := func(pipe *parse.PipeNode, function string) {
		pipe.Cmds = append(pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Args: []parse.Node{parse.NewIdentifier(function).SetPos(pipe.Pos)}})
	}
	branch := func(n *parse.BranchNode) { through(n.List, typed); through(n.ElseList, typed) }
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			switch {
			case len(n.Pipe.Decl) > 0:
			case typed:
				add(n.Pipe, "_value")
			default:
				add(n.Pipe, "_text")
			}
		case *parse.IfNode:
			branch(&n.BranchNode)
		case *parse.WithNode:
			branch(&n.BranchNode)
		case *parse.RangeNode:
			branch(&n.BranchNode)
			add(n.Pipe, "_range")
		}
	}
}

// Write takes as much text as the strategy does.
func (w *boundedText) Write(part []byte) (int, error) {
	if w.Len()+len(part) > maxTemplateText {
		return 0, errLongText
	}
	return w.Buffer.Write(part)
}

type boundedText struct{ bytes.Buffer }

// fill returns the JSON that text/template's result amounts to.
func (g *gos) fill(t *template.Template, typed bool) (string, error) {
	var text boundedText
	var out bytes.Buffer
	if err := t.Execute(&text, nil); err != nil {
		return "", err
	}
	if !typed {
		writeString(&out, text.String())
		return out.String(), nil
	}
	if s, ok := g.value.(string); ok && len(s) > maxTemplateText {
		return "", errLongText
	}
	err := encode(&out, g.value)
	return out.String(), err
}

// refusals match what is refused here, when a configuration is read, although text/template
// executes it, or fails only when it does.
var refusals = regexp.MustCompile(`define, block and template can't be used here|has a value only within range and with|^\$ has no value` +
	`|^[a-z]+ takes (at least )?\d( to \d)? arguments?, got \d|is not a function and takes no arguments|^nil is not a command|overflows int$` +
	`|^printf takes |^path takes a whole number|^(query|header|json) takes text in quotes|^function "call" not defined`)

// isGos compares what comes of a template here and at text/template.
func isGos(t *testing.T, text, body string) {
	text = strings.ToValidUTF8(text, "")
	r := &Request{
		Service: "rag_service", Reason: "open", Method: http.MethodPost, Host: "example.org", Rest: "/search/a%20b/7", Query: "q=caf%C3%A9&empty=",
		Header: http.Header{"X-Tenant": {"acme"}}, Body: []byte(body),
	}
	g := &gos{filling: filling{ctx: context.Background(), request: r}}
	parsed, typed, failure := g.parse(text)
	var quoted bytes.Buffer
	writeString(&quoted, text)
	faults := []string{}
	if strings.Contains(text, "{{") {
		faults = parseTemplate("body", text).faults
	}
	switch {
	case failure != nil:
		if len(faults) != 1 || !strings.HasSuffix(failure.Error(), faults[0]) && faults[0] != `function "call" not defined` {
			t.Errorf("%s: got the faults %q, want %v", quoted.String(), faults, failure)
		}
		return
	case len(faults) > 0:
		if slices.ContainsFunc(faults, func(fault string) bool { return !refusals.MatchString(fault) }) {
			t.Errorf("%s: got the faults %q", quoted.String(), faults)
		}
		return
	}
	want, failure := g.fill(parsed, typed)
	if errors.Is(failure, errLongRun) {
		return
	}
	strategy, err := newTemplated(&TemplateOptions{Status: 200, Body: quoted.Bytes()}, Site{})
	if err != nil {
		t.Fatalf("%s: %v", quoted.String(), err)
	}
	got, err := strategy.Answer(t.Context(), r)
	switch {
	case err == nil && failure == nil:
		if string(got.Body) != want {
			t.Errorf("%s of %q:\ngot  %s\nwant %s", quoted.String(), body, got.Body, want)
		}
	case (err == nil) != (failure == nil):
		t.Errorf("%s of %q:\ngot  %+v, %v\nwant %s, %v", quoted.String(), body, got, err, want, failure)
	}
}

// aBody has a value of each kind.
const aBody = `{"a":"text","b":{"a":null,"b":[1,null,"x",{"a":1.5}],"c":{}},"c":[],"d":[[1,2],[],{"a":"y","b":null}],"n":3,"big":1e40,"f":2.50,` +
	`"t":true,"no":false,"null":null,"":"<&'\">","é":"\u2028"}`

func FuzzTemplateIsGos(f *testing.F) {
	for _, text := range []string{
		`{{json "a"}}`, `{{$x := 1}}{{range $i, $e := json "b"}}{{$i}}{{with $e}}{{.}}{{else}}none{{end}}{{$x = $i}}{{end}}{{$x}}`,
		`{{if and (json "t") (not nil)}}a{{else if eq 1 2 1}}b{{else}}c{{end}}`, `{{range 5}}{{if eq . 1}}{{continue}}{{else if eq . 3}}{{break}}{{end}}{{.}}{{end}}`,
		`{{range json "d"}}{{range .}}{{break}}{{else}}{{break}}{{end}}{{else}}{{end}}`, `{{with json "b"}}{{.a.b}}{{end}}`, `{{with json "b"}}{{.none.b}}{{(.a).b}}{{end}}`,
		`{{range $i, $e := json "b.b"}}{{$e.a}}{{end}}`, `{{(json "n").Int64}}`, `{{lt (json "n").Float64 3.5}}`, `{{index (json "d") 0 1}}{{index "abc" 1}}`,
		`{{slice (json "b.b") 1 3 4}}{{slice "abc" 1}}{{slice (json "f") 0 1}}`, `{{1i}}`, `a{{1i}}{{'a'}}{{0x1e}}{{-0x1e}}{{1e3}}{{0x1p4}}{{1_000}}`,
		`{{printf "%05d|%v|%q" 7 (json "b") "x" | html | js | urlquery}}`, "{{- /* c */ -}} x {{- print 1 2 -}} y", `{{path 1.0}}{{path 'a'}}{{1 | path}}`,
		`{{$x := json "c"}}{{range $i, $x = json "d"}}{{end}}{{$x}}`, `{{range $e := json "c"}}{{else}}{{$e}}{{end}}`, `{{range json "b"}}{{.a}}{{end}}`,
		`{{or nil "" 0 | eq 0}}`, `{{len (json "n")}}{{len (json "b")}}{{len (json "d")}}`, `{{range index "\x03" 0}}{{.}}{{end}}`, `{{range (json "n").Int64}}{{.}}{{end}}`,
		`{{eq (json "c") nil}}{{ne nil nil}}{{eq "3" (json "n")}}`, `{{gt "b" "a"}}{{le 2 1}}{{ge 1.5 1.5}}{{lt (index "a" 0) 98}}`, `{{"a" | and true | or false}}`,
		`a&b`, `{{$ = 1}}{{range $, $x := json "c"}}{{end}}x`, `{{define "x"}}{{end}}`, `{{call 1}}`, `{{if false}}{{nil}}{{end}}`, `{{service.x}}`, `{{end}}`, `{{range}}`,
	} {
		f.Add(text, aBody)
	}
	f.Fuzz(isGos)
}

func TestWhatCouldOnlyFailIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{{len}}`:                             "len takes 1 argument, got 0",
		`{{1 | eq}}`:                          "eq takes at least 2 arguments, got 1",
		`{{and}}`:                             "and takes at least 1 argument, got 0",
		`{{slice "abc" 1 2 3 4}}`:             "slice takes 1 to 4 arguments, got 5",
		`{{ne 1 2 3}}`:                        "ne takes 2 arguments, got 3",
		`{{call 1}}`:                          `function "call" not defined`,
		`{{nil}}`:                             "nil is not a command",
		`{{1 2}}`:                             "1 is not a function and takes no arguments",
		`{{range 1}}{{2 | .a}}{{end}}`:        ".a is not a function and takes no arguments",
		`{{print 18446744073709551615}}`:      "18446744073709551615 overflows int",
		`{{define "body"}}{{service}}{{end}}`: noTemplates,
	} {
		if faults := parseTemplate("body", text).faults; len(faults) != 1 || faults[0] != want {
			t.Errorf("%s: got %q, want %s", text, faults, want)
		}
	}
}

func TestRangesOverNumbersOfARequestAreBounded(t *testing.T) {
	strategy, err := newTemplated(&TemplateOptions{Status: 200, Body: JSON(`"{{range (json \"n\").Int64}}{{end}}done"`)}, Site{})
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{`{"n":65536}`: `"done"`, `{"n":-1}`: `"done"`, `{"n":65537}`: "", `{"n":9223372036854775807}`: ""} {
		a, err := strategy.Answer(t.Context(), &Request{Body: []byte(body)})
		if (err == nil) != (want != "") || err == nil && string(a.Body) != want {
			t.Errorf("%s: got %+v, %v", body, a, err)
		}
	}
}
