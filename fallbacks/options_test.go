package fallbacks_test

import (
	"strings"
	"testing"

	"cbproxy/fallbacks"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/routes"
)

// parseFallbacks parses a configuration with the given fallbacks.
func parseFallbacks(text string) (*routes.Config, error) {
	l := routes.Loader{Path: "c.yaml", Builtin: fallbacks.Builtin(), Strategies: fallbacks.Options()}
	return l.Parse([]byte("routes: {rag_service: {upstream: 'http://a'}, notifier_service: {upstream: 'http://b'}}\nfallbacks:\n  " + text))
}

// A body that is a default, or that of a built-in fallback, does not forbid a status without a body. One that was given does.
func TestStatusWithoutBody(t *testing.T) {
	for text, want := range map[string]string{
		"x: {try: [queue], queue: {status: 204}}":                             "",
		"notifier_service: {queue: {status: 204}}":                            "",
		"notifier_service: {static: {status: 204}, queue: {status: 204}}":     "",
		"rag_service: {static: {status: 204}}":                                "",
		"rag_service: {static: {status: 304, headers: {X-A: b}}}":             "",
		"rag_service: {static: {status: 503}}":                                "",
		"x: {try: [static], static: {status: 204}}":                           "",
		"x: {try: [template], template: {status: 204}}":                       "",
		"rag_service: {static: {status: 204, body: {}}}":                      "c.yaml:3:39: fallbacks.rag_service.static.body: must not be given: a response with status 204 has no body",
		"x: {try: [queue], queue: {status: 204, body: later}}":                "fallbacks.x.queue.body: must not be given",
		"x: {try: [template], template: {status: 304, body: '{{reason}}'}}":   "fallbacks.x.template.body: must not be given",
		"x: {try: [static], static: {status: 200}}":                           "fallbacks.x.static.body: must be given",
		"rag_service: {static: {status: 204}}\n  x: {try: [static]}":          "fallbacks.x.static.body: must be given",
		"rag_service: {try: [template, static], static: {status: 204, a: b}}": "fallbacks.rag_service.static.a: unknown key",
	} {
		c, err := parseFallbacks(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err == nil {
			for name := range c.Fallbacks {
				f := c.Fallbacks[name]
				if _, err := fallbacks.NewChain(f.Try, f.Strategies, fallbacks.Env{Service: name}, nil); err != nil {
					t.Errorf("%s: %s: %v", text, name, err)
				}
			}
		}
	}
}

// Names that differ only in case are one header field, of which either value could be sent.
func TestHeaderFieldGivenTwice(t *testing.T) {
	for _, strategy := range []string{"static", "template"} {
		_, err := parseFallbacks("x: {try: [" + strategy + "], " + strategy + ": {body: a, headers: {\n      x-a: '1',\n      X-b: '2',\n      X-A: '3'}}}")
		want := "c.yaml:4:7: fallbacks.x." + strategy + `.headers.x-a: must not be given with "X-A", which is the same header field`
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
