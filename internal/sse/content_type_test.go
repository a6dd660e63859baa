package sse

import (
	"net/http"
	"testing"
)

func TestHasContentType(t *testing.T) {
	for value, want := range map[string]bool{
		"": false, "text/event-stream": true, "Text/Event-Stream": true, "text/event-stream;charset=utf-8": true,
		"text/event-stream ; charset=utf-8": true, "text/event-streams": false, "text/event": false, "text/plain; text/event-stream": false,
	} {
		if got := HasContentType(http.Header{"Content-Type": {value}}); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}
