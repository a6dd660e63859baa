package fallbacks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/template/parse"
)

// parsedBody is a body taken apart at its templates.
type parsedBody struct {
	holes    []hole
	after    JSON // what follows the last hole
	usesJSON bool // a template asks for fields of the request's body
}

// hole is a text value of a body that is a template.
type hole struct {
	before JSON // what stands between the hole before and this one
	path   string
	root   *parse.ListNode
	value  *parse.PipeNode // of a template that is one action: its value is wanted, not its text
}

// parseTemplates takes body apart and reports the faults of its templates.
func parseTemplates(body JSON, report func(path, message string)) parsedBody {
	parsed := parsedBody{after: body}
	if !json.Valid(body) {
		return parsed // there is none
	}
	done := 0
	eachText(json.NewDecoder(bytes.NewReader(body)), body, "body", func(path, text string, start, end int) {
		if !strings.Contains(text, "{{") {
			return
		}
		p := parseTemplate(path, text)
		if len(p.faults) > 0 {
			report(path, "must be a Go template, got "+shown(text)+": "+strings.Join(p.faults, "; "))
			return
		}
		parsed.holes = append(parsed.holes, hole{body[done:start], path, p.root, p.value})
		parsed.after, done = body[end:], end
		parsed.usesJSON = parsed.usesJSON || p.usesJSON
	})
	return parsed
}

// eachText visits the text values of the value that d, which reads body, comes to next. Each
// is body[start:end].
func eachText(d *json.Decoder, body JSON, path string, visit func(path, text string, start, end int)) {
	before := int(d.InputOffset())
	token, _ := d.Token()
	switch token := token.(type) {
	case string:
		end := int(d.InputOffset())
		visit(path, token, before+bytes.IndexByte(body[before:end], '"'), end)
	case json.Delim:
		for i := 0; d.More(); i++ {
			below := path + "[" + strconv.Itoa(i) + "]"
			if token == '{' {
				key, _ := d.Token()
				below = path + "." + spell(fmt.Sprint(key))
			}
			eachText(d, body, below, visit)
		}
		_, _ = d.Token() // the end
	}
}

// shown returns a template for a fault.
func shown(text string) string {
	const most = 80
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return strconv.Quote(text)
}
