package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/template/parse"

	"cbproxy/fallbacks"
	"cbproxy/internal/sanitize"
)

// body is a JSON body, split at the strings that are templates.
type body struct {
	templateStrings []templateString
	tail            fallbacks.JSON // the JSON after the last template
	usesJSON        bool           // a template calls json
}

// templateString is a string of a body that is a template.
type templateString struct {
	prefix fallbacks.JSON // the JSON between the previous template and this one
	path   string
	tree   *parse.Tree
	// singleAction is true if the whole string is a single action: its JSON is the value of the
	// action, not a string.
	singleAction bool
}

// parseBody splits b and reports the errors in its templates.
func parseBody(b fallbacks.JSON, report func(path, message string)) body {
	parsed := body{tail: b}
	if !json.Valid(b) {
		return parsed // there is no body
	}
	done := 0
	eachString(json.NewDecoder(bytes.NewReader(b)), b, "body", func(path, text string, start, end int) {
		if !strings.Contains(text, "{{") {
			return
		}
		c := check(path, text)
		if len(c.failures) > 0 {
			report(path, "must be a Go template, got "+excerpt(text)+": "+strings.Join(c.failures, "; "))
			return
		}
		parsed.templateStrings = append(parsed.templateStrings, templateString{b[done:start], path, c.tree, isSingleAction(c.tree)})
		parsed.tail, done = b[end:], end
		parsed.usesJSON = parsed.usesJSON || c.usesJSON
	})
	return parsed
}

func isSingleAction(t *parse.Tree) bool {
	if len(t.Root.Nodes) != 1 {
		return false
	}
	action, ok := t.Root.Nodes[0].(*parse.ActionNode)
	return ok && len(action.Pipe.Decl) == 0
}

// eachString visits all strings in the next value of d, a decoder of b. Each string with its quotes is b[start:end].
func eachString(d *json.Decoder, b fallbacks.JSON, path string, visit func(path, text string, start, end int)) {
	before := int(d.InputOffset())
	token, _ := d.Token()
	switch token := token.(type) {
	case string:
		end := int(d.InputOffset())
		visit(path, token, before+bytes.IndexByte(b[before:end], '"'), end)
	case json.Delim:
		for i := 0; d.More(); i++ {
			below := path + "[" + strconv.Itoa(i) + "]"
			if token == '{' {
				key, _ := d.Token()
				below = path + "." + fallbacks.QuoteKey(fmt.Sprint(key))
			}
			eachString(d, b, below, visit)
		}
		_, _ = d.Token() // the closing bracket
	}
}

// excerpt returns the beginning of a template, quoted, for an error message.
func excerpt(text string) string {
	const maxRunes = 80
	return strconv.Quote(sanitize.TruncateRunes(text, maxRunes))
}
