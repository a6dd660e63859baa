package template_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/fallbacks/template"
	"cbproxy/internal/events"
	"cbproxy/routes"
)

// optionsOf returns options with a body given as YAML.
func optionsOf(t testing.TB, body string) *template.Options {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	o := template.DefaultOptions()
	if err := o.Body.UnmarshalYAML(doc.Content[0]); err != nil {
		t.Fatal(err)
	}
	return o
}

// newChain returns a chain with only the template strategy. body is YAML.
func newChain(t testing.TB, body string) *fallbacks.Chain {
	t.Helper()
	return fallbacktest.NewChain(t, "template", optionsOf(t, body), fallbacktest.Env())
}

// render returns the answer's body for a request.
func render(t testing.TB, body string, c *fallbacktest.Client) (string, error) {
	t.Helper()
	a, _, err := newChain(t, body).Answer(t.Context(), c, events.ReasonTimeout)
	if err != nil {
		return "", err
	}
	return string(a.Body), nil
}

// newClient returns a request with values for every function.
func newClient() *fallbacktest.Client {
	return &fallbacktest.Client{
		Req: fallbacks.Request{
			Service: "rag_service", Method: http.MethodPost, Host: "example.org", Path: "/rag/search/a%20b/7/", Rest: "/search/a%20b/7/",
			Query:  "q=caf%C3%A9+au+lait&q=second&empty=&bad=%zz&bad=good&%zz=1&semi=1;2",
			Header: http.Header{"X-Tenant": {"acme", "other"}, "X-Empty": {""}},
		},
		Content: []byte(`{"question":"why?","limit":10,"price":1.50,"big":123456789012345678901234567890,"yes":true,"null":null,"no":false,` +
			`"empty":"","none":[],"user":{"roles":["admin","ops"],"name":"Ann & <Bob>"},"0":"zero"}`),
	}
}

func TestRender(t *testing.T) {
	for body, want := range map[string]string{
		// A single action has a value.
		`'{{service}}'`:                       `"rag_service"`,
		`'{{reason}}'`:                        `"timeout"`,
		`'{{method}}'`:                        `"POST"`,
		`'{{path 0}}'`:                        `"search"`,
		`'{{path 1}}'`:                        `"a b"`,
		`'{{path -1}}'`:                       `"7"`,
		`'{{path -3}}'`:                       `"search"`,
		`'{{path 3}}'`:                        `null`,
		`'{{path -4}}'`:                       `null`,
		`'{{query "q"}}'`:                     `"café au lait"`,
		`'{{query "empty"}}'`:                 `""`,
		`'{{query "bad"}}'`:                   `"good"`,
		`'{{query "semi"}}'`:                  `"1;2"`,
		`'{{query "none"}}'`:                  `null`,
		`'{{header "x-tenant"}}'`:             `"acme"`,
		`'{{header "X-Empty"}}'`:              `""`,
		`'{{header "X-None"}}'`:               `null`,
		`'{{header "host"}}'`:                 `"example.org"`,
		`'{{json "question"}}'`:               `"why?"`,
		`'{{json "limit"}}'`:                  `10`,
		`'{{json "price"}}'`:                  `1.50`,
		`'{{json "big"}}'`:                    `123456789012345678901234567890`,
		`'{{json "yes"}}'`:                    `true`,
		`'{{json "null"}}'`:                   `null`,
		`'{{json "user"}}'`:                   `{"name":"Ann & <Bob>","roles":["admin","ops"]}`,
		`'{{json "user.roles.1"}}'`:           `"ops"`,
		`'{{json "user.roles.2"}}'`:           `null`,
		`'{{json "user.roles.-1"}}'`:          `null`,
		`'{{json "user.roles.x"}}'`:           `null`,
		`'{{json "question.x"}}'`:             `null`,
		`'{{json ""}}'`:                       `null`,
		`'{{json "0"}}'`:                      `"zero"`,
		`'{{json "limit" | default 5}}'`:      `10`,
		`'{{json "nothing" | default 5}}'`:    `5`,
		`'{{json "nothing" | default "x"}}'`:  `"x"`,
		`'{{json "empty" | default "x"}}'`:    `"x"`,
		`'{{json "none" | default "x"}}'`:     `"x"`,
		`'{{json "null" | default true}}'`:    `true`,
		`'{{json "no" | default true}}'`:      `false`,
		`'{{default "x" (query "q")}}'`:       `"café au lait"`,
		`'{{- json "limit" -}}'`:              `10`,
		`'  {{- json "limit" -}}  '`:          `10`,
		`'{{len (json "user.roles")}}'`:       `2`,
		`'{{or (json "x") (query "empty")}}'`: `""`,
		`'{{index (json "user") "roles" 0}}'`: `"admin"`,
		`'{{print nil}}'`:                     `""`,
		`'{{"{{"}}'`:                          `"{{"`,
		`'{{true}}'`:                          `true`,

		// Everything else is text.
		`'{{json "limit"}} '`:                                           `"10 "`,
		`'{{json "limit"}}{{json "limit"}}'`:                            `"1010"`,
		`'No answer for {{query "q"}} from {{service}}: {{reason}}'`:    `"No answer for café au lait from rag_service: timeout"`,
		`'[{{json "nothing"}}{{header "X-None"}}{{json "null"}}]'`:      `"[]"`,
		`'<{{json "user"}}> {{json "yes"}} {{json "price"}}'`:           `"<{\"name\":\"Ann & <Bob>\",\"roles\":[\"admin\",\"ops\"]}> true 1.50"`,
		`'{{if json "yes"}}a{{else}}b{{end}}'`:                          `"a"`,
		`'{{if json "none"}}a{{else if query "x"}}b{{else}}c{{end}}'`:   `"c"`,
		`'{{if eq method "POST"}}{{json "limit"}}{{end}}'`:              `"10"`,
		`'{{range json "user.roles"}}{{.}},{{end}}'`:                    `"admin,ops,"`,
		`'{{range $i, $r := json "user.roles"}}{{$i}}{{$r}}{{end}}'`:    `"0admin1ops"`,
		`'{{range json "nothing"}}x{{else}}none{{end}}'`:                `"none"`,
		`'{{range 3}}{{.}}{{end}}'`:                                     `"012"`,
		`'{{with json "user"}}{{.name}}{{.none}}{{end}}'`:               `"Ann & <Bob>"`,
		`'{{$x := json "limit"}}{{$x}}{{$x}}'`:                          `"1010"`,
		`'{{$x := json "limit"}}'`:                                      `""`,
		`'{{/* nothing */}}'`:                                           `""`,
		`'{{printf "%05.1f %q %s|" 2.5 (query "q") (json "nothing")}}'`: `"002.5 \"café au lait\" |"`,
		`'{{printf "100%%1000 %v" (json "user.roles")}}'`:               `"100%1000 [\"admin\",\"ops\"]"`,
		`'{{query "q" | html}} {{js "<"}} {{urlquery "a b"}}'`:          `"café au lait \\u003C a+b"`,

		// Values that are no templates are as in the static strategy.
		`{z: 1, a: [0.0, ~, true, "}}"], "{{key}}": '{{service}}'}`:                    `{"z":1,"a":[0.0,null,true,"}}"],"{{key}}":"rag_service"}`,
		`[[['{{path 1}}', x], '{{path 0}}']]`:                                          `[[["a b","x"],"search"]]`,
		`{a: '{{service}}', b: {a: '{{method}}'}, b.a: '{{path 0}}', " ": 'é{{"é"}}'}`: `{"a":"rag_service","b":{"a":"POST"},"b.a":"search"," ":"éé"}`,
	} {
		got, err := render(t, body, newClient())
		if err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", body, got, err, want)
		}
	}
}

func TestPathSegments(t *testing.T) {
	for rest, want := range map[string]string{
		"": `[null,null]`, "/": `[null,null]`, "//": `[null,null]`, "/a": `["a","a"]`, "a/b": `["a","b"]`, "/a//b": `["a","b"]`,
		"/%2Fx/%zz": `["/x","%zz"]`, "//a/": `["","a"]`, "/%ff/%00": `["\ufffd","\u0000"]`,
	} {
		if got, err := render(t, `['{{path 0}}', '{{path -1}}']`, &fallbacktest.Client{Req: fallbacks.Request{Rest: rest}}); err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", rest, got, err, want)
		}
	}
}

func TestInvalidJSONBodyHasNoFields(t *testing.T) {
	for body, want := range map[string]string{
		"": `null`, " ": `null`, `{"a":1`: `null`, `{"a":1}{"a":1}`: `null`, `{"a":1} x`: `null`, `"a"`: `null`, "\ufeff{\"a\":1}": `null`,
		`[{"a":1}]`: `null`, `{"a":01}`: `null`, strings.Repeat(`{"a":`, 20_000): `null`,
		" {\"a\":1}\n": `1`, `{"a":1,"a":2}`: `2`, `{"a":1e999}`: `1e999`, `{"a":-0.0}`: `-0.0`, `{"A":1}`: `null`, `{"a":"\ud800"}`: "\"\ufffd\"",
		`{"a":1,"b":"` + strings.Repeat("x", 64<<10) + `"}`: `null`,
	} {
		if got, err := render(t, `'{{json "a"}}'`, &fallbacktest.Client{Content: []byte(body)}); err != nil || got != want {
			t.Errorf("%.50q: got %s, %v, want %s", body, got, err, want)
		}
	}
}

func TestRequestCannotEscapeItsString(t *testing.T) {
	const body = `{text: '<{{query "v"}}>', value: '{{query "v"}}', field: '{{json "v"}}', header: '{{header "V"}}', after: 1}`
	for _, v := range []string{
		`"`, `\`, `\"`, "\n\r\t", `"}`, `","admin":true,"x":"`, `{{service}}`, `{{`, `}}`, "{{range 9}}", "\u2028\u2029", "\x00", "\x7f", "\xff\xfe", "\xed\xa0\x80",
		"<script>&amp;'", "%s%d", `\u0022`, "${HOME}", "😀", strings.Repeat("x\"", 10_000),
	} {
		inBody, err := json.Marshal(map[string]string{"v": v})
		if err != nil {
			t.Fatal(err)
		}
		query := strings.NewReplacer("%", "%25", "&", "%26", "+", "%2B").Replace(v)
		got, err := render(t, body, &fallbacktest.Client{Content: inBody, Req: fallbacks.Request{Query: "v=" + query, Header: http.Header{"V": {v}}}})
		if err != nil {
			t.Errorf("%.50q: %v", v, err)
			continue
		}
		expectFields(t, got, map[string]any{"text": "<" + valid(v) + ">", "value": valid(v), "field": valid(v), "header": valid(v), "after": 1.0})
	}
}

// valid returns s with invalid UTF-8 replaced, as in JSON.
func valid(s string) string { return string([]rune(s)) }

// expectFields fails unless got is an object with exactly the given fields.
func expectFields(t *testing.T, got string, want map[string]any) {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(got), &fields); err != nil {
		t.Fatalf("got %q: %v", got, err)
	}
	if len(fields) != len(want) {
		t.Errorf("got %d fields, want %d", len(fields), len(want))
	}
	for name := range want {
		if fields[name] != want[name] {
			t.Errorf("%s: got %.80q, want %.80q", name, fields[name], want[name])
		}
	}
}

func TestFailedTemplateHasNoAnswer(t *testing.T) {
	long := &fallbacktest.Client{Content: []byte(`{"long":"` + strings.Repeat("x", 60_000) + `"}`), Req: fallbacks.Request{Query: "v=" + strings.Repeat("<", 70_000) + "&w=" + strings.Repeat("<", 20_000)}}
	for body, want := range map[string]string{
		`{a: {b: ['{{index (json "x") 0}}']}}`:                           "render body.a.b[0]: ",
		`'{{len (json "x")}}'`:                                           "body",
		`'{{query "v"}}'`:                                                "a string is longer than 64 KiB",
		`'a {{query "v"}}'`:                                              "a string is longer than 64 KiB",
		`'{{html (query "v")}}'`:                                         "a string is longer than 64 KiB",
		`'{{len (html (query "w"))}}'`:                                   "a string is longer than 64 KiB",
		`'{{$x := "ab"}}{{range 60}}{{$x = print $x $x}}{{end}}'`:        "a string is longer than 64 KiB",
		`'{{$x := "\\"}}{{range 60}}{{$x = js $x}}{{end}}'`:              "a string is longer than 64 KiB",
		`'{{$x := "a"}}{{range 60}}{{$x = printf "%s%s" $x $x}}{{end}}'`: "a string is longer than 64 KiB",
		`'{{range 60000}}xx{{end}}'`:                                     "a string is longer than 64 KiB",
		`'{{range 1000000000}}{{end}}'`:                                  "range over 1000000000",
		"[" + strings.Repeat(`'{{json "long"}}',`, 18) + "]":             "the body is longer than 1 MiB",
		`'{{1i}}'`: "unsupported type",
	} {
		got, err := render(t, body, long)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %.80s, %v, want %s", body, got, err, want)
		}
	}
}

func TestTemplatesEndWithTheContext(t *testing.T) {
	const forever = `'{{range 60000}}{{range 60000}}{{range 60000}}{{end}}{{end}}{{end}}'`
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := newChain(t, forever).Answer(ctx, &fallbacktest.Client{}, events.ReasonOpen)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// Templates that are cheap for usual requests must end with the context for hostile ones, too.
func TestHostileRequestsEndWithTheContext(t *testing.T) {
	list := "[" + strings.Repeat("1,", 300_000) + "1]"
	text := strings.Repeat("x", 500_000)
	for name, test := range map[string]struct{ body, request string }{
		"nested ranges":     {`'{{range $a := json "l"}}{{range $b := json "l"}}{{if eq $a $b}}{{end}}{{end}}{{end}}'`, `{"l":` + list + `}`},
		"empty ranges":      {`'{{range json "l"}}{{range json "l"}}{{end}}{{end}}'`, `{"l":` + list + `}`},
		"long comparisons":  {`'{{$a := json "a"}}{{$b := json "b"}}{{range json "l"}}{{range json "l"}}{{if eq $a $b}}{{end}}{{end}}{{end}}'`, `{"a":"` + text + `","b":"` + text + `","l":[` + strings.Repeat("0,", 1000) + `0]}`},
		"ranges of a count": {`'{{$n := (json "n").Int64}}{{range $n}}{{range $n}}{{range $n}}{{end}}{{end}}{{end}}'`, `{"n":65536}`},
	} {
		o := optionsOf(t, test.body)
		o.MaxBody = 1 << 20
		chain := fallbacktest.NewChain(t, "template", o, fallbacktest.Env())
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		start := time.Now()
		_, _, err := chain.Answer(ctx, &fallbacktest.Client{Content: []byte(test.request)}, events.ReasonOpen)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > 10*time.Second {
			t.Errorf("%s: got %v after %v", name, err, took)
		}
		cancel()
	}
}

// Methods and fields that values do not have are errors, not calls.
func TestTemplatesCallOnlyMethodsOfNumbers(t *testing.T) {
	request := func() *fallbacktest.Client {
		return &fallbacktest.Client{Content: []byte(`{"n":7,"t":"text","l":[1],"m":{"Int64":"field"}}`)}
	}
	for body, want := range map[string]string{
		`'{{(json "n").Int64}}'`: `7`, `'{{(json "n").Float64}}'`: `7`, `'{{(json "n").String}}'`: `"7"`, `'{{(json "m").Int64}}'`: `"field"`,
		`'{{(json "n").GoString}}'`: "", `'{{(json "t").Len}}'`: "", `'{{(json "l").Len}}'`: "", `'{{(json "m").Len}}'`: "null", `'{{service.Len}}'`: "",
	} {
		if got, err := render(t, body, request()); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %s, %v, want %s", body, got, err, want)
		}
	}
}

func TestConcurrentRequestsShareNoState(t *testing.T) {
	chain := newChain(t, `['{{query "q"}}', '{{json "q"}}', '{{with json "q"}}{{.}}{{end}}']`)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			q := strconv.Itoa(i)
			for range 200 {
				a, _, err := chain.Answer(t.Context(), &fallbacktest.Client{Req: fallbacks.Request{Query: "q=" + q}, Content: []byte(`{"q":"` + q + `"}`)}, events.ReasonOpen)
				if want := `["` + q + `","` + q + `","` + q + `"]`; err != nil || string(a.Body) != want {
					t.Errorf("got %+v, %v, want %s", a, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestTemplateAnswer(t *testing.T) {
	o := optionsOf(t, `{a: '{{json "a"}}'}`)
	o.Status, o.Headers, o.MaxBody = 203, map[string]string{"x-a": "{{b}}"}, 8
	chain := fallbacktest.NewChain(t, "template", o, fallbacktest.Env())
	if chain.BodyLimit() != 8 {
		t.Errorf("got a body limit of %d", chain.BodyLimit())
	}
	for body, want := range map[string]string{`{"a":12}`: `{"a":12}`, `{"a":123}`: `{"a":null}`} {
		a, _, err := chain.Answer(t.Context(), &fallbacktest.Client{Content: []byte(body)}, events.ReasonOpen)
		if err != nil || a.Status != 203 || string(a.Body) != want || a.Header.Get("X-A") != "{{b}}" || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %+v, %v, want %s", a, err, want)
		}
	}
	for body, want := range map[string]int64{
		`'{{query "a"}}'`: 0, `'{{ "json" }}'`: 0, "json": 0, `'{{len (json "a")}}'`: 64 << 10, `'{{if false}}{{"a" | json}}{{end}}'`: 64 << 10,
		`'{{range $x := json "a"}}{{end}}'`: 64 << 10, `'{{(json "a").b}}'`: 64 << 10, `'{{with 1}}{{else}}{{json "a"}}{{end}}'`: 64 << 10,
	} {
		if got := newChain(t, body).BodyLimit(); got != want {
			t.Errorf("%s: got a body limit of %d, want %d", body, got, want)
		}
	}
	empty := &template.Options{Status: http.StatusNoContent}
	empty.Validate(func(path, message string) { t.Errorf("204 without a body: %s: %s", path, message) })
}

func TestTemplateErrorsHavePositions(t *testing.T) {
	const content = `routes: {rag_service: {upstream: http://rag}}
fallbacks:
  rag_service:
    try: [template]
    template:
      max_body: 2MiB
      headers:
        Date: now
        "a\nb": x
      body:
        fine: '{{json "question"}}'
        note: 'No {{foo}}'
        deep: {"x y": '{{json', 'a.b': '{{if}}'}
        "new\nline": '{{}}'
        items: [a, b, '{{json "a" "b"}}']
`
	want := `config.yaml:6:7: fallbacks.rag_service.template.max_body: must be from 1 to 1MiB, got 2MiB
config.yaml:7:7: fallbacks.rag_service.template.headers."a\nb": must be a header field name of letters, digits and !#$%&'*+-.^_` + "`" + `|~, got "a\nb"
config.yaml:8:9: fallbacks.rag_service.template.headers.Date: must not be set here: cbproxy sets it
config.yaml:10:7: fallbacks.rag_service.template.body."new\nline": must be a Go template, got "{{}}": missing value for command
config.yaml:12:9: fallbacks.rag_service.template.body.note: must be a Go template, got "No {{foo}}": function "foo" not defined
config.yaml:13:16: fallbacks.rag_service.template.body.deep.x y: must be a Go template, got "{{json": unclosed action
config.yaml:13:33: fallbacks.rag_service.template.body.deep.a.b: must be a Go template, got "{{if}}": missing value for if
config.yaml:15:23: fallbacks.rag_service.template.body.items[2]: must be a Go template, got "{{json \"a\" \"b\"}}": json takes 1 argument, got 2`
	_, err := (&routes.Loader{Path: "config.yaml", Strategies: fallbacks.Options(), Builtin: []byte("{}")}).Parse([]byte(content))
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestEffectiveConfigurationShowsTemplates(t *testing.T) {
	const content = "routes: {rag_service: {upstream: http://rag}}\nfallbacks: {rag_service: {try: [template], template: {body: {z: '{{json \"q\"}} & <x>', a: 1.0}}}}"
	c, err := (&routes.Loader{Path: "config.yaml", Strategies: fallbacks.Options(), Builtin: []byte("{}")}).Parse([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	effective, err := json.Marshal(c.Fallbacks["rag_service"].Strategies["template"])
	if err != nil {
		t.Fatal(err)
	}
	if want := `"Body":{"z":"{{json \"q\"}} \u0026 \u003cx\u003e","a":1.0}`; !strings.Contains(string(effective), want) {
		t.Errorf("got %s, want %s", effective, want)
	}
}

func FuzzTemplate(f *testing.F) {
	const body = `{service: '{{service}}', reason: '{{reason}}', method: '{{method}}', path: '{{path 0}}', last: '-{{path -1}}', query: '<{{query "q"}}>',
 header: '{{header "V"}}', text: '{{header "V"}}"}', field: '{{json "v"}}', deep: '{{json "v.0.w"}}', fields: '<{{json "v"}}>', or: '{{json "v" | default (query "q")}}'}`
	chain := newChain(f, body)
	f.Add("svc", "GET", "/a/b", "q=1", "v", []byte(`{"v":[{"w":1}]}`))
	f.Add(`"`, `\`, "/%zz//%00", "q=%ff;q&q=\"", "\xff\u2028", []byte(`{"v":"{{service}}\ud800"}`))
	f.Add("", "", "", "&&=", `"},{"`, []byte("nonsense"))
	f.Fuzz(func(t *testing.T, service, method, rest, query, header string, content []byte) {
		if len(service)+len(method)+len(rest)+len(query)+len(header)+len(content) > 32<<10 {
			return // may exceed the limits
		}
		c := &fallbacktest.Client{Content: content, Req: fallbacks.Request{Service: service, Method: method, Rest: rest, Query: query, Header: http.Header{"V": {header}}}}
		a, _, err := chain.Answer(t.Context(), c, events.ReasonOpen)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(a.Body, &got); err != nil || len(got) != 12 {
			t.Fatalf("got %q, %v", a.Body, err)
		}
		for name, want := range map[string]string{"service": service, "reason": "open", "method": method, "header": header, "text": header + `"}`} {
			if got[name] != valid(want) {
				t.Errorf("%s: got %q, want %q", name, got[name], want)
			}
		}
	})
}

func BenchmarkTemplate(b *testing.B) {
	chain := newChain(b, `{query: '{{json "question"}}', tenant: '{{header "X-Tenant"}}', camera: '{{path 1}}', count: '{{json "limit" | default 10}}',
 note: 'No answer for {{query "q"}} from {{service}}: {{reason}}'}`)
	c := newClient()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := chain.Answer(b.Context(), c, events.ReasonOpen); err != nil {
			b.Fatal(err)
		}
	}
}
