package fallbacks

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// FuzzMadeTemplateIsGos makes templates that parse, by a grammar.
func FuzzMadeTemplateIsGos(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		choices := make([]byte, 20+r.IntN(200))
		for i := range choices {
			choices[i] = byte(r.Uint32())
		}
		f.Add(choices)
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		m := &maker{choices: choices}
		if m.pick(3) == 0 {
			isGos(t, "{{"+m.pipe(4)+"}}", aBody)
			return
		}
		isGos(t, m.list(4), aBody)
	})
}

// maker makes templates of choices; where there are none left, it takes the first of all, which
// comes to an end.
type maker struct {
	choices   []byte
	variables []string
	scopes    int // with a "."
	loops     int
}

func (m *maker) pick(n int) int {
	if len(m.choices) == 0 {
		return 0
	}
	c := m.choices[0]
	m.choices = m.choices[1:]
	return int(c) % n
}

func (m *maker) oneOf(of ...string) string { return of[m.pick(len(of))] }

func (m *maker) list(depth int) string {
	var b strings.Builder
	for range 1 + m.pick(4) {
		b.WriteString(m.item(depth - 1))
	}
	return b.String()
}

func (m *maker) item(depth int) string {
	if depth <= 0 {
		return m.oneOf("t", " ", "{{- 1 -}}")
	}
	open, end := m.oneOf("{{", "{{- "), m.oneOf("}}", " -}}")
	switch m.pick(10) {
	case 0:
		return m.oneOf("text", " ", "\n", "{{/* c */}}")
	case 1, 2:
		return open + m.pipe(depth) + end
	case 3:
		return open + m.declared(depth, "$a", "$b", "$x") + end
	case 4, 5:
		if len(m.variables) > 0 {
			return open + m.oneOf(m.variables...) + " = " + m.pipe(depth) + end
		}
		return open + m.pipe(depth) + end
	case 6:
		if m.loops > 0 {
			return open + m.oneOf("break", "continue") + end
		}
	}
	return m.block(depth, m.oneOf("range", "if", "with"))
}

func (m *maker) declared(depth int, names ...string) string {
	name, pipe := m.oneOf(names...), m.pipe(depth)
	m.variables = append(m.variables, name)
	return name + " := " + pipe
}

func (m *maker) block(depth int, keyword string) string {
	outside := len(m.variables)
	defer func() { m.variables = m.variables[:outside] }()
	head := "{{" + keyword + " "
	switch {
	case m.pick(3) == 0:
		head += m.pipe(depth)
	case m.pick(2) == 0:
		head += m.container()
	case keyword != "range" || m.pick(3) == 0:
		head += m.declared(depth, "$a", "$v")
	case len(m.variables) > 0 && m.pick(3) == 0:
		head += m.oneOf(m.variables...) + m.oneOf("", ", "+m.oneOf(m.variables...)) + " = " + m.pipe(depth)
	default:
		head += "$i, " + m.declared(depth, "$a", "$v")
		m.variables = append(m.variables, "$i")
	}
	inside := len(m.variables)
	if keyword != "if" {
		m.scopes++
	}
	if keyword == "range" {
		m.loops++
	}
	text := head + "}}" + m.list(depth)
	if keyword != "if" {
		m.scopes--
	}
	if keyword == "range" {
		m.loops--
	}
	m.variables = m.variables[:inside]
	switch m.pick(4) {
	case 1, 2:
		text += "{{else}}" + m.list(depth)
	case 3:
		if keyword != "range" {
			text += "{{else " + keyword + " " + m.pipe(depth) + "}}" + m.list(depth)
		}
	}
	return text + "{{end}}"
}

func (m *maker) pipe(depth int) string {
	text := m.command(depth - 1)
	for range m.pick(8) / 5 {
		text += " | " + m.full(depth-1, "print", "html", "not", "len", "and %", "or %", "eq %", "eq nil", "default %", "json", "query", "path", `printf "%%v-%%d" %`, "slice %", "lt %")
	}
	return text
}

// full picks a text and puts operands in for its %.
func (m *maker) full(depth int, of ...string) string {
	parts := strings.Split(strings.ReplaceAll(m.oneOf(of...), "%%", "\x00"), "%")
	text := parts[0]
	for _, part := range parts[1:] {
		text += m.operand(depth-1) + part
	}
	return strings.ReplaceAll(text, "\x00", "%")
}

func (m *maker) command(depth int) string {
	if depth <= 0 {
		return m.operand(0)
	}
	switch m.pick(8) {
	case 0:
		return m.operand(depth)
	case 1:
		return "json " + m.oneOf(`"a"`, `"b"`, `"b.b"`, `"d"`, `"n"`, `"c"`, `"none"`, `"null"`, `"b.c"`, `"t"`, `"f"`, `"big"`, `""`)
	case 2:
		return m.full(depth, "eq % %", "ne % %", "lt % %", "le % %", "gt % %", "ge % %", "eq % % %", "default % %", "not %", "len %")
	case 3:
		return m.oneOf("lt", "le", "gt", "ge", "eq", "ne") + m.oneOf(" 1 2", " 2 2", " 2.5 1.5", ` "a" (json "a")`, ` (json "n") "3"`, ` (json "n").Int64 3`, ` (index "a" 0) 97`)
	case 4:
		return m.full(depth, "and %", "and % %", "or % %", "and % % %", "or % % %", "print % %", "println %", "html % %", "js %", "urlquery %")
	case 5:
		return m.oneOf("index ", "slice ") + m.container() + m.oneOf("", " 0", " 1", " 0 1", ` "a"`, ` "b" "b" 1`, " 0 4", " 1 2 4", " "+m.operand(depth-1))
	case 6:
		return m.oneOf("", "len ") + m.container()
	}
	return m.full(depth, `printf "%%v" %`, `printf "%%d %%s" % %`, `printf "%%q %%5.1f" % %`, `printf "%%x%%c%%T" % % %`, `printf "%%t" % %`)
}

// container returns an operand that is likely to have parts.
func (m *maker) container() string {
	all := append([]string{`(json "b.b")`, `(json "d")`, `(json "b")`, `(json "c")`, `"text"`, `(json "a")`, `(json "f")`}, m.variables...)
	if m.scopes > 0 {
		all = append(all, ".", ".a", ".b")
	}
	return m.oneOf(all...)
}

func (m *maker) operand(depth int) string {
	all := []string{"1", "0", `"a"`, `""`, "true", "false", "2.5", "0.0", "'a'", "-1", "2", "1i", "0i", "0x1e", "nil", "service", `"b"`, "3", `"\x02z"`}
	for _, v := range m.variables {
		all = append(all, v, v, v+".a", v+".b.a", v+".Int64", v+".none.a")
	}
	if m.scopes > 0 {
		all = append(all, ".", ".", ".", ".a", ".b", ".a.b", ".b.a", ".none.a", ".Int64", ".Float64", ".String")
	}
	if depth <= 0 {
		return m.oneOf(all...)
	}
	switch chosen := m.pick(len(all)+16) - len(all); {
	case chosen < 0:
		return all[chosen+len(all)]
	case chosen < 6:
		return m.container()
	case chosen < 12:
		return "(" + m.pipe(depth) + ")"
	}
	return "(" + m.pipe(depth) + ")" + m.oneOf(".a", ".b", ".b.a", ".Int64", ".Float64", ".none.a")
}
