package template

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/fallbacks"
)

// bodyOfAllTypes has a value of each JSON type.
const bodyOfAllTypes = `{"a":"text","b":{"a":null,"b":[1,null,"x",{"a":1.5}],"c":{}},"c":[],"d":[[1,2],[],{"a":"y","b":null}],"n":3,"big":1e40,"f":2.50,` +
	`"t":true,"no":false,"null":null,"":"<&'\">","é":"\u2028"}`

// expectBounded renders a template. A template that New accepts must either fail or produce valid
// JSON within the limits, and must end soon after its context.
func expectBounded(t *testing.T, text, body string) {
	t.Helper()
	strategy, err := newStrategy(text)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	a, err := strategy.Answer(ctx, &fallbacks.Request{
		Service: "rag_service", Reason: "open", Method: http.MethodPost, Host: "example.org", Rest: "/search/a%20b/7", Query: "q=caf%C3%A9&empty=",
		Header: http.Header{"X-Tenant": {"acme"}}, Body: []byte(body),
	})
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("%s: ended after %v", text, d)
	}
	switch {
	case err != nil:
	case !json.Valid(a.Body):
		t.Errorf("%s: %q is not JSON", text, a.Body)
	case len(a.Body) > maxBody:
		t.Errorf("%s: the body has %d bytes", text, len(a.Body))
	}
}

func FuzzHostileTemplate(f *testing.F) {
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
		`{{$x := "ab"}}{{range 60}}{{$x = print $x $x}}{{end}}`, `{{range 60000}}{{range 60000}}{{if query "q"}}{{end}}{{end}}{{end}}`,
		`{{range service}}{{end}}`, `{{range json}}{{end}}`, `{{range 1e9}}{{end}}`, `{{range -1}}{{end}}`, `{{range (json "big").Float64}}{{end}}`,
		`{{(json "n").String.x}}`, `{{(json "n").GoString}}`, `{{(json "n").UnmarshalJSON "1"}}`, `{{(print 1).Len}}`, strings.Repeat("{{if 1}}", 100) + strings.Repeat("{{end}}", 100),
	} {
		f.Add(text, bodyOfAllTypes)
	}
	f.Fuzz(func(t *testing.T, text, body string) { expectBounded(t, strings.ToValidUTF8(text, ""), body) })
}

// FuzzGeneratedTemplate tests templates that parse.
func FuzzGeneratedTemplate(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		choices := make([]byte, 20+r.IntN(200))
		for i := range choices {
			choices[i] = byte(r.Uint32())
		}
		f.Add(choices)
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		g := &generator{choices: choices}
		text := "{{" + g.pipe(4) + "}}"
		if g.pick(3) > 0 {
			text = g.list(4)
		}
		expectBounded(t, text, bodyOfAllTypes)
	})
}
