package docs

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// document is a Markdown file of the repository, with the commands that a reader runs.
type document struct {
	source  []byte
	blocks  []block
	links   []string
	needs   []string        // commands that fail if this machine lacks what the page's commands need
	anchors map[string]bool // valid link fragments of this page
}

// block is a code block of commands, or the content of a file. A comment before it may say how to run the commands, or names
// the file.
type block struct {
	line         int
	console      bool   // each command follows a prompt and precedes its output
	text         string // commands, or the content of file
	file         string // if set, the block is written to this file
	readyURL     string // if set, runs in a separate terminal; the next block runs when this URL responds
	interruptURL string // if set, the block that was started with this readyURL is interrupted first
	skipReason   string // if set, the block is not run
}

var (
	readyDirective     = regexp.MustCompile(`^<!-- in a second terminal, until (\S+) answers -->$`)
	interruptDirective = regexp.MustCompile(`^<!-- ctrl-c: (\S+) -->$`)
	fileDirective      = regexp.MustCompile(`^<!-- file: (\S+) -->$`)
	needsDirective     = regexp.MustCompile(`^<!-- needs: (.+) -->$`)
	skipDirective      = regexp.MustCompile(`^<!-- not run: (.+) -->$`)
)

// parseDocument returns the links, anchors and command blocks of a page. It returns an error for an unknown directive.
func parseDocument(source []byte) (*document, error) {
	md := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()))
	p := &document{source: source, anchors: map[string]bool{}}
	root := md.Parser().Parse(text.NewReader(source), parser.WithContext(parser.NewContext(parser.WithIDs(&anchorGenerator{taken: map[string]int{}}))))
	err := ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			if id, ok := n.AttributeString("id"); ok {
				p.anchors[string(id.([]byte))] = true
			}
		case *ast.Link:
			p.links = append(p.links, string(n.Destination))
		case *ast.Image:
			p.links = append(p.links, string(n.Destination))
		case *ast.HTMLBlock:
			if m := needsDirective.FindStringSubmatch(p.comment(n)); m != nil {
				p.needs = append(p.needs, m[1])
			}
		case *ast.FencedCodeBlock:
			return ast.WalkContinue, p.add(n)
		}
		return ast.WalkContinue, nil
	})
	return p, err
}

// anchorGenerator generates heading anchors as GitHub and GitLab do.
type anchorGenerator struct{ taken map[string]int } // taken counts headings by anchor

// Generate returns the anchor of a heading. It appends a number if an earlier heading has the same text.
func (h *anchorGenerator) Generate(value []byte, _ ast.NodeKind) []byte {
	name := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, string(value))
	h.Put([]byte(name))
	if n := h.taken[name]; n > 1 {
		name = fmt.Sprintf("%s-%d", name, n-1)
	}
	return []byte(name)
}

// Put records that an anchor is taken.
func (h *anchorGenerator) Put(value []byte) { h.taken[string(value)]++ }

// comment returns the text of an HTML comment.
func (p *document) comment(n *ast.HTMLBlock) string {
	return strings.TrimSpace(string(n.Lines().Value(p.source)))
}

// add appends a fenced block if it contains commands or a file.
func (p *document) add(n *ast.FencedCodeBlock) error {
	directive := ""
	if comment, ok := n.PreviousSibling().(*ast.HTMLBlock); ok && !needsDirective.MatchString(p.comment(comment)) {
		directive = p.comment(comment)
	}
	language, file := string(n.Language(p.source)), fileDirective.FindStringSubmatch(directive)
	if language != "sh" && language != "console" && file == nil || n.Lines().Len() == 0 {
		return nil
	}
	first := n.Lines().At(0)
	b := block{
		line: bytes.Count(p.source[:first.Start], []byte("\n")) + 1, console: language == "console",
		text: string(n.Lines().Value(p.source)),
	}
	if file != nil {
		b.file = file[1]
	} else if m := readyDirective.FindStringSubmatch(directive); m != nil {
		b.readyURL = m[1]
	} else if m := interruptDirective.FindStringSubmatch(directive); m != nil {
		b.interruptURL = m[1]
	} else if m := skipDirective.FindStringSubmatch(directive); m != nil {
		b.skipReason = m[1]
	} else if directive != "" {
		return fmt.Errorf("line %d: unknown directive in the comment before commands: %s", b.line-2, directive)
	}
	p.blocks = append(p.blocks, b)
	return nil
}

// command is a command with the output that the page shows for it.
type command struct{ text, output string }

// parseConsole splits console text into commands. A line that ends with a backslash continues on the next line.
func parseConsole(s string) (commands []command) {
	continued := false
	for line := range strings.Lines(s) {
		switch text, isCommand := strings.CutPrefix(line, "$ "); {
		case isCommand:
			commands = append(commands, command{text: text})
			continued = strings.HasSuffix(line, "\\\n")
		case len(commands) == 0:
		case continued:
			commands[len(commands)-1].text += line
			continued = strings.HasSuffix(line, "\\\n")
		default:
			commands[len(commands)-1].output += line
		}
	}
	return commands
}

// variableParts matches output that differs between runs.
var variableParts = []struct {
	pattern     *regexp.Regexp
	placeholder string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`), "<time>"},
	{regexp.MustCompile(`\b(\d+(\.\d+)?(ns|µs|ms|s|m|h))+\b`), "<duration>"},
	{regexp.MustCompile(`(Retry-After|Age): \d+`), "$1: <number>"},
	{regexp.MustCompile(`Date: .* GMT`), "<date>"},
	{regexp.MustCompile(`instance [^ \n]+`), "<instance>"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// matchesOutput reports whether got matches the documented output. It ignores variable parts, and … matches any text.
func matchesOutput(documented, got string) bool {
	normalize := func(s string) string {
		s = strings.TrimSpace(strings.ReplaceAll(s, "\r", ""))
		for _, v := range variableParts {
			s = v.pattern.ReplaceAllString(s, v.placeholder)
		}
		return strings.ReplaceAll(s, " \n", "\n")
	}
	pattern := regexp.QuoteMeta(normalize(documented))
	pattern = strings.ReplaceAll(pattern, "\n…\n", "\n(?s:.*)\n")
	pattern = strings.ReplaceAll(pattern, "…", ".*")
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(normalize(got))
}

// TestMatchesOutputIgnoresVariableParts checks that matchesOutput ignores variable parts of the output and nothing else.
func TestMatchesOutputIgnoresVariableParts(t *testing.T) {
	for _, c := range []struct {
		documented, got string
		want            bool
	}{
		{"200 closed\n", "200 closed\n", true},
		{"200 closed\n", "200 open\n", false},
		{"200 closed\n", "503 closed\n", false},
		{"", "200 closed\n", false},
		{"200 closed\n", "", false},
		{"a\nb\n", "a\nx\nb\n", false},
		{"a\n…\nb\n", "a\nx\ny\nb\n", true},
		{"a\n…\nb\n", "a\nx\ny\nc\n", false},
		{"it is … here\n", "it is very cold here\n", true},
		{"it is … here\n", "it is\nhere\n", false},
		{"open for 9m59s\n", "open for 1.5s\n", true},
		{"open for 9m59s\n", "open for ever\n", false},
		{"Retry-After: 8\nX: 1\n", "Retry-After: 10\r\nX: 1\r\n", true},
		{"Retry-After: 8\nX: 1\n", "Retry-After: 8\nX: 2\n", false},
		{"Date: Thu, 26 Nov 2026 12:56:05 GMT\n", "Date: Mon, 01 Jan 2029 00:00:00 GMT\n", true},
		{"NAME    AGE\nsvc     3s\n", "NAME  AGE\nsvc   12s\n", true},
		{"a.b (c)\n", "axb (c)\n", false},
	} {
		if got := matchesOutput(c.documented, c.got); got != c.want {
			t.Errorf("%q matches %q: %v", c.documented, c.got, got)
		}
	}
}

// TestParseConsoleSeparatesCommandsFromOutput tests parseConsole and parseDocument.
func TestParseConsoleSeparatesCommandsFromOutput(t *testing.T) {
	got := parseConsole("$ one\n1\n1b\n$ two \\\n  --more\n2\n$ three\n")
	want := []command{{"one\n", "1\n1b\n"}, {"two \\\n  --more\n", "2\n"}, {"three\n", ""}}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	d, err := parseDocument([]byte("# A `b_c` d\n\n<!-- ctrl-c: http://x/ -->\n```console\n$ a\n```\n\n```yaml\nno: command\n```\n\n<!-- needs: x -->\n\n<!-- file: y.yaml -->\n```yaml\ny: 1\n```\n\n```sh\nb\n```\n\n# A `b_c` d\n\n[l](x.md#y)\n"))
	if err != nil {
		t.Fatal(err)
	}
	want2 := []block{{line: 5, console: true, text: "$ a\n", interruptURL: "http://x/"}, {line: 16, text: "y: 1\n", file: "y.yaml"}, {line: 20, text: "b\n"}}
	if !slices.Equal(d.blocks, want2) || !d.anchors["a-b_c-d"] || !d.anchors["a-b_c-d-1"] || !slices.Equal(d.needs, []string{"x"}) || !slices.Equal(d.links, []string{"x.md#y"}) {
		t.Errorf("got %+v", d)
	}
	if _, err := parseDocument([]byte("<!-- in the background -->\n```sh\na\n```\n")); err == nil {
		t.Error("a comment with an unknown directive is accepted")
	}
}
