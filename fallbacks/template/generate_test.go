package template

import "strings"

// generator generates valid templates from random bytes, by a grammar. Without bytes left it takes
// the first alternative, so that it ends.
type generator struct {
	choices   []byte
	variables []string
	scopes    int // the number of enclosing nodes that set "."
	loops     int
}

func (g *generator) pick(n int) int {
	if len(g.choices) == 0 {
		return 0
	}
	c := g.choices[0]
	g.choices = g.choices[1:]
	return int(c) % n
}

func (g *generator) oneOf(of ...string) string { return of[g.pick(len(of))] }

func (g *generator) list(depth int) string {
	var b strings.Builder
	for range 1 + g.pick(4) {
		b.WriteString(g.item(depth - 1))
	}
	return b.String()
}

func (g *generator) item(depth int) string {
	if depth <= 0 {
		return g.oneOf("t", " ", "{{- 1 -}}")
	}
	open, end := g.oneOf("{{", "{{- "), g.oneOf("}}", " -}}")
	switch g.pick(10) {
	case 0:
		return g.oneOf("text", " ", "\n", "{{/* c */}}")
	case 1, 2:
		return open + g.pipe(depth) + end
	case 3:
		return open + g.declared(depth, "$a", "$b", "$x") + end
	case 4, 5:
		if len(g.variables) > 0 {
			return open + g.oneOf(g.variables...) + " = " + g.pipe(depth) + end
		}
		return open + g.pipe(depth) + end
	case 6:
		if g.loops > 0 {
			return open + g.oneOf("break", "continue") + end
		}
	}
	return g.block(depth, g.oneOf("range", "if", "with"))
}

func (g *generator) declared(depth int, names ...string) string {
	name, pipe := g.oneOf(names...), g.pipe(depth)
	g.variables = append(g.variables, name)
	return name + " := " + pipe
}

func (g *generator) block(depth int, keyword string) string {
	outside := len(g.variables)
	defer func() { g.variables = g.variables[:outside] }()
	head := "{{" + keyword + " "
	switch {
	case g.pick(3) == 0:
		head += g.pipe(depth)
	case g.pick(2) == 0:
		head += g.container()
	case keyword != "range" || g.pick(3) == 0:
		head += g.declared(depth, "$a", "$v")
	case len(g.variables) > 0 && g.pick(3) == 0:
		head += g.oneOf(g.variables...) + g.oneOf("", ", "+g.oneOf(g.variables...)) + " = " + g.pipe(depth)
	default:
		head += "$i, " + g.declared(depth, "$a", "$v")
		g.variables = append(g.variables, "$i")
	}
	inside := len(g.variables)
	if keyword != "if" {
		g.scopes++
	}
	if keyword == "range" {
		g.loops++
	}
	text := head + "}}" + g.list(depth)
	if keyword != "if" {
		g.scopes--
	}
	if keyword == "range" {
		g.loops--
	}
	g.variables = g.variables[:inside]
	switch g.pick(4) {
	case 1, 2:
		text += "{{else}}" + g.list(depth)
	case 3:
		if keyword != "range" {
			text += "{{else " + keyword + " " + g.pipe(depth) + "}}" + g.list(depth)
		}
	}
	return text + "{{end}}"
}

func (g *generator) pipe(depth int) string {
	text := g.command(depth - 1)
	for range g.pick(8) / 5 {
		text += " | " + g.full(depth-1, "print", "html", "not", "len", "and %", "or %", "eq %", "eq nil", "default %", "json", "query", "path", `printf "%%v-%%d" %`, "slice %", "lt %")
	}
	return text
}

// full picks a text and replaces each % in it by an operand.
func (g *generator) full(depth int, of ...string) string {
	parts := strings.Split(strings.ReplaceAll(g.oneOf(of...), "%%", "\x00"), "%")
	text := parts[0]
	for _, part := range parts[1:] {
		text += g.operand(depth-1) + part
	}
	return strings.ReplaceAll(text, "\x00", "%")
}

func (g *generator) command(depth int) string {
	if depth <= 0 {
		return g.operand(0)
	}
	switch g.pick(8) {
	case 0:
		return g.operand(depth)
	case 1:
		return "json " + g.oneOf(`"a"`, `"b"`, `"b.b"`, `"d"`, `"n"`, `"c"`, `"none"`, `"null"`, `"b.c"`, `"t"`, `"f"`, `"big"`, `""`)
	case 2:
		return g.full(depth, "eq % %", "ne % %", "lt % %", "le % %", "gt % %", "ge % %", "eq % % %", "default % %", "not %", "len %")
	case 3:
		return g.oneOf("lt", "le", "gt", "ge", "eq", "ne") + g.oneOf(" 1 2", " 2 2", " 2.5 1.5", ` "a" (json "a")`, ` (json "n") "3"`, ` (json "n").Int64 3`, ` (index "a" 0) 97`)
	case 4:
		return g.full(depth, "and %", "and % %", "or % %", "and % % %", "or % % %", "print % %", "println %", "html % %", "js %", "urlquery %")
	case 5:
		return g.oneOf("index ", "slice ") + g.container() + g.oneOf("", " 0", " 1", " 0 1", ` "a"`, ` "b" "b" 1`, " 0 4", " 1 2 4", " "+g.operand(depth-1))
	case 6:
		return g.oneOf("", "len ") + g.container()
	}
	return g.full(depth, `printf "%%v" %`, `printf "%%d %%s" % %`, `printf "%%q %%5.1f" % %`, `printf "%%x%%c%%T" % % %`, `printf "%%t" % %`)
}

// container returns an operand that is likely to be a list or a map.
func (g *generator) container() string {
	all := append([]string{`(json "b.b")`, `(json "d")`, `(json "b")`, `(json "c")`, `"text"`, `(json "a")`, `(json "f")`}, g.variables...)
	if g.scopes > 0 {
		all = append(all, ".", ".a", ".b")
	}
	return g.oneOf(all...)
}

func (g *generator) operand(depth int) string {
	all := []string{"1", "0", `"a"`, `""`, "true", "false", "2.5", "0.0", "'a'", "-1", "2", "1i", "0i", "0x1e", "nil", "service", `"b"`, "3", `"\x02z"`}
	for _, v := range g.variables {
		all = append(all, v, v, v+".a", v+".b.a", v+".Int64", v+".none.a")
	}
	if g.scopes > 0 {
		all = append(all, ".", ".", ".", ".a", ".b", ".a.b", ".b.a", ".none.a", ".Int64", ".Float64", ".String")
	}
	if depth <= 0 {
		return g.oneOf(all...)
	}
	switch chosen := g.pick(len(all)+16) - len(all); {
	case chosen < 0:
		return all[chosen+len(all)]
	case chosen < 6:
		return g.container()
	case chosen < 12:
		return "(" + g.pipe(depth) + ")"
	}
	return "(" + g.pipe(depth) + ")" + g.oneOf(".a", ".b", ".b.a", ".Int64", ".Float64", ".none.a")
}
