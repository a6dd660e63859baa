package textform_test

import (
	"regexp"
	"strings"
	"testing"

	"cbproxy/internal/textform"
)

func TestCheckPrefix(t *testing.T) {
	for _, text := range []string{"/", "/rag", "/rag/", "/a/b", "/caf%C3%A9", "/with space"} {
		if want := textform.CheckPrefix(text); want != "" {
			t.Errorf("%q: %s", text, want)
		}
	}
	for _, text := range []string{"", "rag", "//", "/a//b", "/a/../b", "/%2e", "/%zz", "/a?b", "/a#b", "/a%2fb", `/a\b`, "/a%00"} {
		if want := textform.CheckPrefix(text); !strings.HasPrefix(want, "must ") {
			t.Errorf("%q is accepted", text)
		}
	}
}

// The check of each form accepts and rejects these texts, and the pattern for the JSON Schema matches every text that is accepted.
func TestForms(t *testing.T) {
	for name, texts := range map[string]struct{ valid, invalid []string }{
		"method":      {[]string{"GET", "M-SEARCH"}, []string{"", "get", "GE T", strings.Repeat("A", 33)}},
		"event_name":  {[]string{"error", "tool error", strings.Repeat("é", 64)}, []string{"", " error", "a\nb", "a\x00", strings.Repeat("a", 129)}},
		"key_header":  {[]string{"", "X-Tenant", "x_model", "Cookie"}, []string{" ", "X Tenant", "X-Tenant:", "Té", "Host", "CONNECTION", "te", "Upgrade", strings.Repeat("a", 129)}},
		"probe_path":  {[]string{"", "/", "/healthz?deep=1", "/a%20b"}, []string{"healthz", "/a b", "/a#b", "/%zz", "/a/../b", "/a/..;x/b", "/é", "/%5c", "/" + strings.Repeat("a", 2048)}},
		"server_name": {[]string{"", "rag.internal", "2001:db8::1", "127.0.0.1"}, []string{"rag:80", "a b", "-a", "fe80::1%eth0", strings.Repeat("a.", 127) + "a"}},
		"host":        {[]string{"*", "rag.internal", "::1"}, []string{"", "rag:80", "*.internal"}},
		"namespace":   {[]string{"", "prod:", "é"}, []string{"a b", "a\x00", strings.Repeat("a", 65)}},
	} {
		form := textform.Forms[name]
		pattern := regexp.MustCompile(form.Pattern)
		for _, text := range texts.valid {
			if want := form.Check(text); want != "" || !pattern.MatchString(text) {
				t.Errorf("%s %q: %s, pattern %s", name, text, want, form.Pattern)
			}
		}
		for _, text := range texts.invalid {
			if want := form.Check(text); !strings.HasPrefix(want, "must ") || textform.Checks[name](text) != want {
				t.Errorf("%s %q: got %q, want what the text must be", name, text, want)
			}
		}
	}
}
