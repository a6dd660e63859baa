package message

import (
	"net/url"
	"strings"
	"testing"
)

// A safe path stays below its prefix for every server, whether it decodes once or twice and whatever it reads as a slash.
func FuzzSafePath(f *testing.F) {
	for _, seed := range []string{"/a/b", "/a/../b", "/%2e%2e/", "/a%2f..%2fb", "/%252e%252e/x", "/..;/x", "/a\\..\\b", "/%5c..", "/a%00", "/...", "/.a", "/a.", "/%", "/%2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") || !IsSafePath(path) {
			return
		}
		for range 3 {
			for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
				if segment, _, _ := strings.Cut(segment, ";"); segment == "." || segment == ".." {
					t.Fatalf("%q has a dot segment", path)
				}
			}
			if strings.ContainsAny(path, "\x00\\") {
				t.Fatalf("%q has a NUL or a backslash", path)
			}
			decoded, err := url.PathUnescape(path)
			if err != nil {
				return
			}
			path = decoded
		}
	})
}

func TestIsProxyFieldInAnySpelling(t *testing.T) {
	for _, name := range []string{
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Anything", "X-Forwarded", "X-Real-Ip", "X_Forwarded_For", "X-Forwarded_Proto",
		"X_real_ip", "X-Circuit-Breaker-State", "X_Circuit_Breaker_Service", "X-Fallback", "X-Fallback-Reason", "Proxy-Status",
	} {
		if !IsProxyField(name) {
			t.Errorf("%s reaches the upstream", name)
		}
	}
	for _, name := range []string{"X-Request-Id", "Traceparent", "Forward", "X-Fallbacks", "Proxy-Authorization", "X_Request_Id", "Accept", "_"} {
		if IsProxyField(name) {
			t.Errorf("%s is withheld", name)
		}
	}
}
