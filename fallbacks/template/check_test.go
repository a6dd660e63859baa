package template

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"cbproxy/fallbacks"
)

// checkFailures returns the errors that check finds in a template.
func checkFailures(template string) []string { return check("body", template).failures }

func TestCheckRefusesTemplatesThatAlwaysFail(t *testing.T) {
	for template, want := range map[string]string{
		`{{len}}`:                             "len takes 1 argument, got 0",
		`{{1 | eq}}`:                          "eq takes at least 2 arguments, got 1",
		`{{and}}`:                             "and takes at least 1 argument, got 0",
		`{{slice "abc" 1 2 3 4}}`:             "slice takes 1 to 4 arguments, got 5",
		`{{ne 1 2 3}}`:                        "ne takes 2 arguments, got 3",
		`{{nil}}`:                             "nil is not a command",
		`{{1 2}}`:                             "1 is not a function and takes no arguments",
		`{{range 1}}{{2 | .a}}{{end}}`:        ".a is not a function and takes no arguments",
		`{{range 1}}{{.a 1}}{{end}}`:          ".a is not a function and takes no arguments",
		`{{print 18446744073709551615}}`:      "18446744073709551615 overflows int",
		`{{print 0xFFFFFFFFFFFFFFFE}}`:        "0xFFFFFFFFFFFFFFFE overflows int",
		`{{define "body"}}{{service}}{{end}}`: noNestedTemplates,
		`{{json}}`:                            "json takes 1 argument, got 0",
		`{{print (json)}}`:                    "json takes 1 argument, got 0",
		`{{print json}}`:                      "json takes 1 argument, got 0",
		`{{"a" | json "b"}}`:                  "json takes 1 argument, got 2",
		`{{json "a" | default}}`:              "default takes 2 arguments, got 1",
		`{{service "x"}}`:                     "service takes 0 arguments, got 1",
		`{{path "x"}}`:                        `path takes a whole number, got "x"`,
		`{{path 1.5}}`:                        "path takes a whole number, got 1.5",
		`{{query 1}}`:                         "query takes a quoted string, got 1",
		`{{header true}}`:                     "header takes a quoted string, got true",
		`{{.question}}`:                       ".question has a value only within range and with",
		`{{if .}}{{end}}`:                     ". has a value only within range and with",
		`{{with 1}}{{else}}{{.}}{{end}}`:      ". has a value only within range and with",
		`{{range .items}}{{end}}`:             ".items has a value only within range and with",
		`{{range 1}}{{.}}{{end}}{{.}}`:        ". has a value only within range and with",
		`{{$.question}}`:                      "$ has no value",
	} {
		if got := checkFailures(template); len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q, want %s", template, got, want)
		}
	}
}

func TestCheckRefusesUnboundedAndUnknownThings(t *testing.T) {
	for template, want := range map[string]string{
		`{{define "x"}}{{template "x"}}{{end}}`:         noNestedTemplates,
		`{{define "x"}}a{{end}}b`:                       noNestedTemplates,
		`{{template "body"}}`:                           noNestedTemplates,
		`{{block "x" 1}}a{{end}}`:                       noNestedTemplates,
		`{{if false}}{{template "body" .}}{{end}}`:      noNestedTemplates,
		`{{call 1}}`:                                    `function "call" not defined`,
		`{{jsno "a"}}`:                                  `function "jsno" not defined`,
		`{{_value 1}}`:                                  `function "_value" not defined`,
		`{{_text 1}}`:                                   `function "_text" not defined`,
		`{{_range 1}}`:                                  `function "_range" not defined`,
		`{{_iteration}}`:                                `function "_iteration" not defined`,
		`{{printf (query "f")}}`:                        "printf takes its format as text in quotes",
		`{{query "f" | printf}}`:                        "printf takes its format as text in quotes",
		`{{printf "%1000d" 1}}`:                         "at most 3 digits, got %1000d",
		`{{printf "%.9999f" 1.0}}`:                      "at most 3 digits, got %.9999f",
		`{{printf "%*d" 99999 1}}`:                      "at most 3 digits, got %*d",
		`{{printf "%[2]*[1]d" 1 99999}}`:                "at most 3 digits, got %[2]*[1]d",
		`{{printf "%5000é" 1}}`:                         "at most 3 digits, got %5000é",
		`{{printf "` + strings.Repeat("%d", 33) + `"}}`: "at most 32 verbs, got 33",
	} {
		if got := checkFailures(template); len(got) == 0 || !strings.Contains(got[0], want) {
			t.Errorf("%.50s: got %q, want %s", template, got, want)
		}
	}
}

// A checked template calls only functions in signatures, so each must exist.
func TestFunctionsHaveSignatures(t *testing.T) {
	for name := range new(execContext).functions() {
		if _, ok := signatures[name]; !ok {
			t.Errorf("the function %s has no signature", name)
		}
	}
	for name, s := range signatures {
		args := strings.Repeat(" 1", s.min)
		if s.takes == stringArgs || name == "printf" {
			args = strings.Repeat(` "1"`, s.min)
		}
		if got := checkFailures("{{" + name + args + "}}"); len(got) > 0 {
			t.Errorf("%s%s: got %q", name, args, got)
		}
		if _, err := newStrategy("{{" + name + args + "}}"); err != nil {
			t.Errorf("%s%s: %v", name, args, err)
		}
	}
}

// newStrategy returns a strategy whose body is one template.
func newStrategy(template string) (fallbacks.Strategy, error) {
	text, err := json.Marshal(template)
	if err != nil {
		return nil, err
	}
	return New(&Options{Status: 200, Body: text}, fallbacks.Env{})
}

func TestNewFailsForInvalidTemplates(t *testing.T) {
	for _, template := range []string{"{{", "{{call 1}}", "{{json}}", strings.Repeat("é", 100) + "{{"} {
		text, _ := json.Marshal(template)
		o := &Options{Status: 200, Body: text}
		var reported []string
		o.Validate(func(path, message string) { reported = append(reported, path+": "+message) })
		if len(reported) != 1 || !strings.HasPrefix(reported[0], "body: must be a Go template, got ") {
			t.Errorf("%.50s: got %q", template, reported)
		}
		if _, err := New(o, fallbacks.Env{}); err == nil || !slices.Equal(reported, strings.Split(err.Error(), "\n")) {
			t.Errorf("%.50s: New returns %v, want %q", template, err, reported)
		}
	}
	if got := excerpt(strings.Repeat("é", 100)); got != `"`+strings.Repeat("é", 80)+`…"` {
		t.Errorf("got %s", got)
	}
}

func TestRangesOverNumbersOfARequestAreBounded(t *testing.T) {
	strategy, err := newStrategy(`{{range (json "n").Int64}}{{end}}done`)
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{`{"n":65536}`: `"done"`, `{"n":-1}`: `"done"`, `{"n":65537}`: "", `{"n":9223372036854775807}`: ""} {
		a, err := strategy.Answer(t.Context(), &fallbacks.Request{Body: []byte(body)})
		if (err == nil) != (want != "") || err == nil && string(a.Body) != want {
			t.Errorf("%s: got %+v, %v", body, a, err)
		}
	}
}
