package docs

import (
	"slices"
	"testing"
)

// TestMatchesOutputIgnoresVariableParts checks that shows ignores variable parts of the output and nothing else.
func TestMatchesOutputIgnoresVariableParts(t *testing.T) {
	for _, c := range []struct {
		shown, got string
		same       bool
	}{
		{"200 closed\n", "200 closed\n", true},
		{"200 closed\n", "200 open\n", false},
		{"200 closed\n", "503 closed\n", false},
		{"", "200 closed\n", false},
		{"200 closed\n", "", false},
		{"a\nb\n", "a\nx\nb\n", false},
		{"a\n…\nb\n", "a\nx\ny\nb\n", true},
		{"a\n…\nb\n", "a\nx\ny\nc\n", false},
		{"it is … here\n", "it is very cold here\n", true},
		{"it is … here\n", "it is\nhere\n", false},
		{"open for 9m59s\n", "open for 1.5s\n", true},
		{"open for 9m59s\n", "open for ever\n", false},
		{"Retry-After: 8\nX: 1\n", "Retry-After: 10\r\nX: 1\r\n", true},
		{"Retry-After: 8\nX: 1\n", "Retry-After: 8\nX: 2\n", false},
		{"Date: Thu, 26 Nov 2026 12:56:05 GMT\n", "Date: Mon, 01 Jan 2029 00:00:00 GMT\n", true},
		{"NAME    AGE\nsvc     3s\n", "NAME  AGE\nsvc   12s\n", true},
		{"a.b (c)\n", "axb (c)\n", false},
	} {
		if got := shows(c.shown, c.got); got != c.same {
			t.Errorf("%q shows %q: %v", c.shown, c.got, got)
		}
	}
}

func TestParseConsoleSeparatesCommandsFromOutput(t *testing.T) {
	got := transcript("$ one\n1\n1b\n$ two \\\n  --more\n2\n$ three\n")
	want := []command{{"one\n", "1\n1b\n"}, {"two \\\n  --more\n", "2\n"}, {"three\n", ""}}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	d, err := parseDocument([]byte("# A `b_c` d\n\n<!-- ctrl-c: http://x/ -->\n```console\n$ a\n```\n\n```yaml\nno: command\n```\n\n```sh\nb\n```\n\n# A `b_c` d\n\n[l](x.md#y)\n"))
	if err != nil {
		t.Fatal(err)
	}
	want2 := []block{{line: 5, console: true, text: "$ a\n", ends: "http://x/"}, {line: 13, text: "b\n"}}
	if !slices.Equal(d.blocks, want2) || !d.names["a-b_c-d"] || !d.names["a-b_c-d-1"] || !slices.Equal(d.links, []string{"x.md#y"}) {
		t.Errorf("got %+v", d)
	}
	if _, err := parseDocument([]byte("<!-- in the background -->\n```sh\na\n```\n")); err == nil {
		t.Error("a comment with an unknown directive is accepted")
	}
}
