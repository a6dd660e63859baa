package upload_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"cbproxy/internal/upload"
)

// A fallback strategy does not wait for the rest of a body that it can't use. A strategy after it may.
func TestFallbackDoesNotWaitForAnUnusableBody(t *testing.T) {
	unread := iotest.ErrReader(errors.New("the body was read"))
	for name, test := range map[string]struct {
		arrived string    // is read before
		rest    io.Reader // is still to arrive
		length  int64     // Content-Length
		limit   int64
		want    string // part of the error; "" for none
	}{
		"no content used, known length":    {"", unread, 100, 0, "larger than 0 bytes"},
		"no content used, unknown length":  {"", unread, -1, 0, "still being received"},
		"no content used, part arrived":    {"x", unread, -1, 0, "larger than 0 bytes"},
		"known to be too long":             {"", unread, 100, 99, "larger than 99 bytes"},
		"too long already":                 {strings.Repeat("x", 100), unread, -1, 99, "larger than 99 bytes"},
		"becomes too long":                 {"", io.MultiReader(strings.NewReader(strings.Repeat("x", 100)), unread), -1, 99, "larger than 99 bytes"},
		"longest":                          {"x", strings.NewReader(strings.Repeat("x", 99)), 100, 100, ""},
		"longest, unknown length":          {"x", strings.NewReader(strings.Repeat("x", 99)), -1, 100, ""},
		"too long by its last byte":        {strings.Repeat("x", 99), strings.NewReader("x"), -1, 99, "larger than 99 bytes"},
		"no content used, all has arrived": {"", strings.NewReader(""), 0, 0, ""},
	} {
		b := new(upload.Body)
		r := &http.Request{Body: io.NopCloser(io.MultiReader(strings.NewReader(test.arrived), test.rest)), ContentLength: test.length}
		b.Init(upload.Config{Request: r, Writer: httptest.NewRecorder(), Start: time.Now(), MaxBytes: 1 << 20})
		b.RetainForFallback(1000)
		reader, _ := b.NewReader()
		if _, err := io.ReadFull(reader, make([]byte, len(test.arrived))); err != nil {
			t.Fatal(err)
		}
		if test.length == 0 {
			_, _ = io.ReadAll(reader)
		}
		body, err := b.ReadRest(test.limit)
		switch {
		case test.want == "" && (err != nil || int64(len(body)) != test.limit):
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestLaterStrategyGetsTheWholeBody(t *testing.T) {
	b := new(upload.Body)
	r := &http.Request{Body: io.NopCloser(iotest.OneByteReader(strings.NewReader("hello"))), ContentLength: -1}
	b.Init(upload.Config{Request: r, Writer: httptest.NewRecorder(), Start: time.Now(), MaxBytes: 1 << 20})
	b.RetainForFallback(10)
	for _, limit := range []int64{0, 3, 0} {
		if body, err := b.ReadRest(limit); err == nil {
			t.Errorf("limit %d: got %q", limit, body)
		}
	}
	if body, err := b.ReadRest(5); string(body) != "hello" || err != nil {
		t.Errorf("got %q, %v", body, err)
	}
}
