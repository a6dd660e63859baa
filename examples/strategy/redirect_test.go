package redirect

import (
	"strings"
	"testing"

	"cbproxy/fallbacks/fallbacktest"
	_ "cbproxy/fallbacks/standard" // the built-in fallbacks use its strategies
)

func TestRedirect(t *testing.T) {
	config, err := fallbacktest.ParseFallback("try: [redirect]\nredirect: {url: 'https://standby.example.com/'}")
	if err != nil {
		t.Fatal(err)
	}
	options := config.Fallbacks["x_service"].Strategies["redirect"]
	chain := fallbacktest.NewChain(t, "redirect", options, fallbacktest.Env())

	r := fallbacktest.NewGET()
	r.Req.Query = "q=tea"
	a, err := fallbacktest.Answer(t, chain, r)
	if err != nil || a.Status != 307 || a.Header.Get("Location") != "https://standby.example.com/svc/x?q=tea" {
		t.Errorf("got %+v, %v", a, err)
	}

	r.Req.Method = "POST"
	if a, err := fallbacktest.Answer(t, chain, r); err == nil {
		t.Errorf("POST: got %+v", a)
	}
}

func TestOptionsAreValidated(t *testing.T) {
	for text, want := range map[string]string{
		"try: [redirect]":                                                      "c.yaml:3:3: fallbacks.x_service.redirect.url: must be a URL",
		"try: [redirect]\nredirect: {url: /path}":                              "redirect.url: must be a URL",
		"try: [redirect]\nredirect: {url: 'https://a', status: 200}":           "redirect.status: must be from 300 to 399",
		"try: [redirect]\nredirect: {url: 'https://a', statsu: 302}":           "redirect.statsu: unknown key",
		"try: [redirect]\nredirect: {url: 'https://a'}\nwhen: [open, timeout]": "",
	} {
		_, err := fallbacktest.ParseFallback(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
