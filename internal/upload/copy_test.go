package upload_test

import (
	"io"
	"strings"
	"testing"

	"cbproxy/internal/upload"
)

// A copy of the body exists once all of it has been read, if it is retained.
func TestCopy(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		read int // bytes; -1: until the end
		ok   bool
	}{
		"not read":    {"hello", 0, false},
		"read partly": {"hello", 2, false},
		"read":        {"hello", -1, true},
		"empty":       {"", -1, true},
		"the largest": {strings.Repeat("x", upload.MaxReplay), -1, true},
		"too large":   {strings.Repeat("x", upload.MaxReplay+1), -1, false},
	} {
		b := replayable(c.body)
		r, _ := b.NewReader()
		if c.read < 0 {
			if _, err := io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		} else if _, err := io.ReadFull(r, make([]byte, c.read)); err != nil {
			t.Fatal(err)
		}
		data, ok := b.Copy()
		if ok != c.ok || ok && (string(data) != c.body || data == nil) {
			t.Errorf("%s: %d bytes, %t", name, len(data), ok)
		}
		for i := range data {
			data[i] = 'y' // the body itself does not change
		}
		if again, _ := b.Copy(); ok && string(again) != c.body {
			t.Errorf("%s: the copy shares memory with the body", name)
		}
	}
}

func TestCopyOfNoBody(t *testing.T) {
	if data, ok := new(upload.Body).Copy(); data != nil || !ok {
		t.Errorf("%v, %t", data, ok)
	}
}
