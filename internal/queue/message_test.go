package queue_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/queue"
)

// anyText generates strings of arbitrary bytes.
func anyText() *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })
}

func TestEncodeDecodeRoundTrip(t *testing.T) {
	rings := []*queue.Keyring{nil, keyring(t, newKey(1), newKey(2))}
	rapid.Check(t, func(t *rapid.T) {
		text := anyText()
		in := queue.Message{
			Method: text.Draw(t, "method"), Host: text.Draw(t, "host"), Path: text.Draw(t, "path"), Rest: text.Draw(t, "rest"), Query: text.Draw(t, "query"),
			EmptyQuery: rapid.Bool().Draw(t, "empty query"),
			Header:     rapid.MapOf(rapid.StringMatching("[A-Z][a-z-]*"), rapid.SliceOf(text)).Draw(t, "header"),
			Body:       rapid.SliceOf(rapid.Byte()).Draw(t, "body"), Accepted: time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "accepted")),
		}
		for _, keys := range rings {
			payload, err := queue.Encode(&in, keys)
			if err != nil {
				t.Fatal(err)
			}
			out, err := queue.Decode(payload, keys)
			if err != nil || contentOf(&in) != contentOf(out) || !in.Accepted.Equal(out.Accepted) {
				t.Fatalf("got %+v, %v\nwant %s", out, err, contentOf(&in))
			}
		}
	})
}

// FuzzDecode decodes arbitrary payloads, as a damaged disk may contain.
func FuzzDecode(f *testing.F) {
	keys := keyring(f, newKey(1))
	m := message("body")
	m.Header = http.Header{"A": {"\xff", ""}}
	for _, k := range []*queue.Keyring{nil, keys} {
		payload, err := queue.Encode(m, k)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	head := append([]byte{1}, make([]byte, 8)...)
	for _, text := range []string{"", "\x00", "\x02{}", "\x04null", "\x0d{\"header\":nul", "\x0f{\"header\":null}", "\x17{\"header\":{\"A\":null}} body", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01{}", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"} {
		f.Add(append(bytes.Clone(head), text...))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, k := range []*queue.Keyring{nil, keys} {
			m, err := queue.Decode(payload, k)
			if err != nil {
				continue
			}
			if m.Header == nil || len(m.Body) > len(payload) {
				t.Fatalf("%+v", m)
			}
			again, err := queue.Encode(m, k)
			if err != nil {
				t.Fatal(err)
			}
			if twice, err := queue.Decode(again, k); err != nil || contentOf(twice) != contentOf(m) {
				t.Fatalf("%s was decoded again as %+v, %v", contentOf(m), twice, err)
			}
		}
	})
}

// contentOf formats the stored fields of a message for comparison.
func contentOf(m *queue.Message) string {
	return fmt.Sprintf("%q %q %q %q %q %t %q %q %d", m.Method, m.Host, m.Path, m.Rest, m.Query, m.EmptyQuery, m.Header, m.Body, m.Accepted.UnixMilli())
}
