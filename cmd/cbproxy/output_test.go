package main

import (
	"strings"
	"testing"
)

func TestPrintJSONEscapesControlCharacters(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	if err := printJSON(&got, []byte("{\"a\":\"\u009b31m\x7f é \u202e \U000e0001\"}\n")); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"a\": \"\\u009b31m\\u007f é \\u202e \\udb40\\udc01\"\n}\n"; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
	if err := printJSON(&got, []byte("no JSON")); err == nil {
		t.Error("printJSON accepted invalid JSON")
	}
}
