package routes

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cbproxy/internal/expression"
	"cbproxy/internal/strictyaml"
)

// referenceGenerator generates the reference page from the same types, comments, tags and defaults as
// the JSON Schema.
type referenceGenerator struct {
	docs       map[string]string // as in schemaGenerator
	strategies map[string]any
	algorithms map[string]any
	out        bytes.Buffer
	written    []table
	tls        bool // the table of TLS is written
}

// tlsPath is the title of the table of TLS, which several sections share.
const tlsPath = "tls"

// table is a table of the page. Structs with the same keys and defaults share one.
type table struct {
	path string
	v    reflect.Value
}

// GenerateReference returns every key of Config as Markdown, a table for each mapping. The
// arguments are those of GenerateSchema.
func GenerateReference(t *testing.T, strategies, algorithms map[string]any, sources ...string) []byte {
	t.Helper()
	g := &referenceGenerator{docs: comments(t, append([]string{"schema.go"}, sources...)), strategies: strategies, algorithms: algorithms}
	g.builtins()
	g.section("", reflect.ValueOf(defaultConfig()).Elem())
	return g.out.Bytes()
}

// builtins writes the defaults of the built-in services.
func (g *referenceGenerator) builtins() {
	g.out.WriteString("\n### The built-in services\n\n| service | prefix | timeout | `fail_max` | `recovery_timeout` | priority |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, name := range []string{"rag_service", "rule_generation_service", "notifier_service", "vms_service", "prediction_service"} {
		s, _ := builtinService(name)
		fmt.Fprintf(&g.out, "| `%s` | `%s` | %s | %d | %s | %d |\n", name, s.prefix, formatDuration(s.timeout), s.failMax, formatDuration(s.recoveryTimeout), s.priority)
	}
}

// section writes the table of the struct at a path and the tables of its nested structs.
func (g *referenceGenerator) section(path string, v reflect.Value) {
	title, subject := "The top level", ""
	switch {
	case path == tlsPath:
		title = "TLS to a server"
		subject = "`redis.tls`, `routes.NAME.tls` and `fallbacks.NAME.upstream.tls` have the same keys. Each"
	case path != "":
		title = "`" + path + "`"
		subject = title
	}
	fmt.Fprintf(&g.out, "\n### %s\n\n", title)
	if doc := g.docs[typeName(v.Type())]; subject != "" && doc != "" {
		fmt.Fprintf(&g.out, "%s %s\n\n", subject, escaped(strings.TrimPrefix(doc, v.Type().Name()+" ")))
	}
	g.out.WriteString("| key | takes | default | description |\n| --- | --- | --- | --- |\n")
	var below []table
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := strictyaml.KeyName(f)
		if key == "" {
			continue
		}
		to := strings.TrimPrefix(path+"."+key, ".")
		takes, shown := "", ""
		switch inner, isNamed := nested(f, v.Field(i)); {
		case f.Type == reflect.TypeFor[*Route]():
			takes = "the keys of " + linked("routes.NAME")
		case inner.IsValid() && inner.Type() == reflect.TypeFor[TLS]():
			takes = "[TLS keys](#tls-to-a-server)"
			if !g.tls {
				g.tls = true
				below = append(below, table{tlsPath, inner})
			}
		case inner.IsValid():
			if isNamed {
				to += ".NAME"
			}
			known := slices.IndexFunc(g.written, func(t table) bool {
				return t.v.Type() == inner.Type() && reflect.DeepEqual(t.v.Interface(), inner.Interface())
			})
			if known >= 0 {
				takes = "the keys of " + linked(g.written[known].path)
				break
			}
			takes = linked(to)
			below = append(below, table{to, inner})
			g.written = append(g.written, table{to, inner})
		default:
			takes = takesOf(f.Type, strictyaml.RulesOf(f.Tag))
			if value := defaultOf(v.Field(i)); value != nil {
				shown = "`" + strings.ReplaceAll(string(value), ",", ", ") + "`"
			}
		}
		g.row(key, takes, shown, g.docs[typeName(v.Type())+"."+f.Name])
	}
	options, kind := map[string]any{}, ""
	switch v.Type() {
	case reflect.TypeFor[Fallback]():
		options, kind = g.strategies, "strategy"
	case reflect.TypeFor[Breaker]():
		options, kind = g.algorithms, "algorithm"
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if options[name] == nil {
			continue
		}
		to := path + "." + name
		g.row(name, linked(to), "", "Options of the "+kind+" "+name+".")
		below = append(below, table{to, reflect.ValueOf(options[name]).Elem()})
	}
	for _, t := range below {
		g.section(t.path, t.v)
	}
}

func (g *referenceGenerator) row(key, takes, shown, doc string) {
	fmt.Fprintf(&g.out, "| `%s` | %s | %s | %s |\n", key, takes, shown, escaped(doc))
}

// linked returns a link to the table of a path.
func linked(path string) string {
	name := strings.ToLower(strings.ReplaceAll(path, ".", ""))
	return fmt.Sprintf("[`%s`](#%s)", path, name)
}

// escaped escapes Markdown syntax in s.
func escaped(s string) string { return strings.NewReplacer("|", `\|`, "<", `\<`, "*", `\*`).Replace(s) }

// takesOf describes the values of a type.
func takesOf(t reflect.Type, r strictyaml.Rules) string {
	if value, ok := strictyaml.ValueType(t); ok {
		return takesOf(value, r) + ", or `auto`"
	}
	switch t {
	case strictyaml.DurationType:
		return "duration" + bounds(r)
	case strictyaml.SizeType:
		return "size" + bounds(r)
	case reflect.TypeFor[expression.OpenWhenText](), reflect.TypeFor[expression.FailureWhenText]():
		return "expression"
	case reflect.TypeFor[Upstream]():
		return "URL"
	case reflect.TypeFor[Endpoints]():
		return "URL, or list of 1 to 64 URLs"
	case reflect.TypeFor[Prefixes]():
		return "path, or list of paths"
	case reflect.TypeFor[Statuses]():
		return "code, class or range, or a list of them"
	}
	if reflect.PointerTo(t).Implements(strictyaml.UnmarshalerType) {
		return "any value"
	}
	switch t.Kind() {
	case reflect.Slice:
		s := "list of: " + takesOf(t.Elem(), r)
		if r.MaxItems > 0 {
			s += fmt.Sprintf("; at most %d", r.MaxItems)
		}
		return s
	case reflect.Map:
		return "mapping of names to: " + takesOf(t.Elem(), r)
	case reflect.Bool:
		return "`true`, `false`"
	case reflect.Int, reflect.Int64:
		return "integer" + bounds(r)
	case reflect.Float64:
		return "number" + bounds(r)
	}
	if r.Enum != nil {
		return "`" + strings.Join(r.Enum, "`, `") + "`"
	}
	return "string"
}

// bounds describes the bounds of a number.
func bounds(r strictyaml.Rules) string {
	low, high, isRange := strings.Cut(r.Valid, "..")
	switch {
	case !isRange && r.Valid == "":
		return ""
	case !isRange && r.Valid == "positive":
		return " over 0"
	case !isRange && r.Valid == "non-negative":
		return ", 0 or more"
	case high == "":
		return ", " + low + " or more"
	}
	return ", " + low + " to " + high
}
