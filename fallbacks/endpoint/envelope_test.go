package endpoint

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"cbproxy/fallbacks"
)

func FuzzDecodeAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"status":200,"headers":{"X-A":["1","2"],"x-b":"c"},"body":{"a":[1,null]}}`, `{"status":204}`,
		`{"status":200,"body_text":"\ud800"}`, `{"status":200,"body_base64":"aGk="}`, `{"status":304,"headers":{}}`,
		`{"status":200,"headers":{"X":[]}}`, `{"status" :2e2}`, `{,}`, `{"status":200,}`, `{"status":200 "body":1}`, "{\"\xff\":1}", `[`, `null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := decodeAnswer(text)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Error("invalid JSON is accepted")
		}
		if a.Status < 200 || a.Status > 599 || !fallbacks.BodyAllowed(a.Status) && len(a.Body) > 0 {
			t.Errorf("status %d, body %q", a.Status, a.Body)
		}
		for name, values := range a.Header {
			if http.CanonicalHeaderKey(name) != name || !httpguts.ValidHeaderFieldName(name) {
				t.Errorf("field %q", name)
			}
			for _, v := range values {
				if !httpguts.ValidHeaderFieldValue(v) {
					t.Errorf("field %s: %q", name, v)
				}
			}
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(text, &keys); err != nil {
			t.Fatal(err)
		}
		if body, ok := keys["body"]; ok && string(a.Body) != string(body) {
			t.Errorf("body %s became %s", body, a.Body)
		}
	})
}

func FuzzEncodeRequest(f *testing.F) {
	f.Add("GET", "/a%2F\xff", "a=%&b", "value", []byte("body"))
	f.Add("POST", "/<>", "", "\x00\u2028", []byte("\xff"))
	f.Fuzz(func(t *testing.T, method, path, query, value string, body []byte) {
		r := &fallbacks.Request{Method: method, Path: path, Query: query, Header: http.Header{"X-A": {value}}, Body: body}
		text, err := encodeRequest(r, []string{"X-A"})
		if err != nil {
			t.Fatal(err)
		}
		var e envelope
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatal(err)
		}
		if string(body) != e.Body+string(e.BodyBase64) || utf8.ValidString(query) && e.Query != query {
			t.Errorf("became %s", text)
		}
		r.BodyError = errors.New("too large")
		if text, err := encodeRequest(r, nil); err != nil || !json.Valid(text) {
			t.Errorf("without the body: %s, %v", text, err)
		}
	})
}

func BenchmarkDecodeAnswer(b *testing.B) {
	text := []byte(`{"status":200,"headers":{"Cache-Control":"no-store","X-A":["1","2"]},"body":{"answer":[1,2,3],"text":"well"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeAnswer(text); err != nil {
			b.Fatal(err)
		}
	}
}
