package upstream_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"cbproxy/internal/upstream"
)

func targetOf(t testing.TB, address string) upstream.Target {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return upstream.TargetOf(u)
}

func TestRewriteLocation(t *testing.T) {
	const rag = "http://rag:8000"
	mount := upstream.Mount{Prefix: "/rag", Path: "/items"}
	for name, c := range map[string]struct {
		target string
		mount  upstream.Mount
		values [][2]string // the upstream's and the client's
	}{
		"with a prefix": {rag, mount, [][2]string{
			{"http://rag:8000/items/", "/rag/items/"},
			{"HTTP://RAG:8000/items/?a=http://rag:8000/b#c?d", "/rag/items/?a=http://rag:8000/b#c?d"},
			{"http://rag:8000", "/rag/"}, {"http://rag:8000?q", "/rag/?q"}, {"http://rag:8000#f", "/rag/#f"}, {"http://rag:8000/", "/rag/"},
			{"//rag:8000/items/", "/rag/items/"},
			{"/items/", "/rag/items/"}, {"/", "/rag/"}, {"/a%2Fb?x=%20", "/rag/a%2Fb?x=%20"}, {"/ragged", "/rag/ragged"},
			{"/rag/items/", "/rag/items/"}, {"http://rag:8000/rag/items/", "/rag/items/"}, {"/rag", "/rag"}, {"/rag?q", "/rag?q"},
			{"items/", "items/"}, {"../x", "../x"}, {"?page=2", "?page=2"}, {"#top", "#top"}, {"", ""},
			{"http://rag:8001/items/", "http://rag:8001/items/"}, {"https://rag:8000/items/", "https://rag:8000/items/"},
			{"http://rag/items/", "http://rag/items/"}, {"http://rag.example/x", "http://rag.example/x"},
			{"http://user@rag:8000/x", "http://user@rag:8000/x"}, {"//other/x", "//other/x"}, {"mailto:a@b", "mailto:a@b"},
			{"http://rag:8000@evil.example/", "http://rag:8000@evil.example/"}, {`http://rag:8000\evil`, `http://rag:8000\evil`},
			{"http://client:8080/x", "http://client:8080/x"}, {"/x?next=http://rag:8000/", "/rag/x?next=http://rag:8000/"},
			{"//", "//"}, {"http://", "http://"}, {"://", "://"},
		}},
		"whose upstream has the prefix in its own paths": {rag, upstream.Mount{Prefix: "/rag", Path: "/rag/items"}, [][2]string{
			{"/rag/items/", "/rag/rag/items/"}, {"http://rag:8000/rag/items/", "/rag/rag/items/"}, {"/login", "/rag/login"},
		}},
		"without a prefix": {rag, upstream.Mount{Path: "/items"}, [][2]string{
			{"http://rag:8000/items/", "/items/"}, {"/items/", "/items/"}, {"http://rag:8000", "/"},
			{"http://rag:8000//evil.example/", "/.//evil.example/"}, {`http://rag:8000/\evil.example/`, `/./\evil.example/`},
			{"//evil.example/", "//evil.example/"},
		}},
		"with the client's host": {rag, upstream.Mount{Prefix: "/rag", Path: "/items", Host: "client:8080"}, [][2]string{
			{"http://client:8080/items/", "/rag/items/"}, {"http://client:8080/rag/items/", "/rag/items/"},
			{"https://client:8080/items/", "https://client:8080/items/"}, {"http://rag:8000/items/", "/rag/items/"},
		}},
		"below a base": {"http://rag:8000/api/", mount, [][2]string{
			{"http://rag:8000/api/items/", "/rag/items/"}, {"/api/items/", "/rag/items/"}, {"/api", "/rag/"}, {"/api?q", "/rag/?q"},
			{"/login", "/login"}, {"/apis", "/apis"}, {"http://rag:8000/login", "http://rag:8000/login"},
		}},
		"with a default port": {"http://rag", mount, [][2]string{{"http://rag:80/x", "/rag/x"}, {"http://rag/x", "/rag/x"}, {"http://rag:443/x", "http://rag:443/x"}}},
		"with TLS":            {"https://rag:443", mount, [][2]string{{"https://rag/x", "/rag/x"}, {"http://rag/x", "http://rag/x"}}},
		"over h2c":            {"h2c://rag:50051", mount, [][2]string{{"http://rag:50051/x", "/rag/x"}}},
		"with IPv6":           {"http://[::1]:8000", mount, [][2]string{{"http://[::1]:8000/x", "/rag/x"}}},
	} {
		target := targetOf(t, c.target)
		h := http.Header{"Other": {"http://rag:8000/items/"}}
		for _, v := range c.values {
			h["Location"], h["Content-Location"] = []string{v[0]}, []string{v[0], v[0]}
			target.RewriteLocation(h, c.mount)
			if !slices.Equal(h["Location"], []string{v[1]}) || !slices.Equal(h["Content-Location"], []string{v[1], v[1]}) {
				t.Errorf("%s: %q became %q and %q, want %q", name, v[0], h["Location"], h["Content-Location"], v[1])
			}
		}
		if h.Get("Other") != "http://rag:8000/items/" {
			t.Errorf("%s: changed another field to %q", name, h.Get("Other"))
		}
	}
}

// Whatever an upstream sends, rewriting must not lead a client to another host than the one it named or the proxy.
func FuzzRewriteLocation(f *testing.F) {
	for _, seed := range []string{"http://rag:8000/items/", "//rag:8000//evil/", `/\evil`, "http://rag:8000", "/rag/x", "items"} {
		f.Add(seed, "/rag", "/items")
		f.Add(seed, "", "/items")
	}
	target := targetOf(f, "http://rag:8000")
	f.Fuzz(func(t *testing.T, address, prefix, path string) {
		if prefix != "" && prefix != "/rag" || !strings.HasPrefix(path, "/") {
			t.Skip()
		}
		h := http.Header{"Location": {address}}
		target.RewriteLocation(h, upstream.Mount{Prefix: prefix, Path: path})
		got := h.Get("Location")
		if got == address {
			return
		}
		if !strings.HasPrefix(got, "/") || strings.HasPrefix(got, "//") || strings.HasPrefix(got, `/\`) || !strings.HasPrefix(got, prefix) {
			t.Errorf("%q became %q", address, got)
		}
	})
}
