package sanitize

import "testing"

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"no secret":                            "no secret",
		"a=b":                                  "a=b",
		"mail user@host":                       "mail user@host",
		"dial redis://user:pw@host: refused":   "dial redis://redacted@host: refused",
		"http://host/path?token=a&n=1":         "http://host/path?token=redacted&n=1",
		"http://host/path?n=1":                 "http://host/path?n=1",
		"http://host/?p%61ssword=a?b&n=1":      "http://host/?p%61ssword=redacted?redacted&n=1",
		"redis://user:a?token=b@host and more": "redis://redacted@redacted",
	} {
		if got := Redact(text); got != want {
			t.Errorf("Redact(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"redis://host:6379/0":   "redis://host:6379/0",
		"redis://user:pw@host":  "redis://redacted@host",
		"user:pw@host":          "redacted@host",
		"redis://user:p w@host": "redis://redacted",
		"redis://host?token=a":  "redis://host?token=redacted",
	} {
		if got := RedactURL(text); got != want {
			t.Errorf("RedactURL(%q) = %q, want %q", text, got, want)
		}
	}
}
