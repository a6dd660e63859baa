package grpc

import (
	"net/http"
	"testing"
)

func TestContentTypes(t *testing.T) {
	for contentType, want := range map[string]struct{ grpc, variant bool }{
		"application/grpc":               {true, true},
		"application/grpc+proto":         {true, true},
		"application/grpc;charset=utf-8": {true, true},
		"Application/gRPC+proto":         {false, true},
		"application/grpc-web+proto":     {false, true},
		"application/json":               {false, false},
		"":                               {false, false},
	} {
		if got := HasContentType(http.Header{"Content-Type": {contentType}}); got != want.grpc {
			t.Errorf("HasContentType(%q) = %v", contentType, got)
		}
		if got := IsVariant(contentType); got != want.variant {
			t.Errorf("IsVariant(%q) = %v", contentType, got)
		}
	}
	if HasContentType(http.Header{"Content-Type": {"application/grpc", "application/grpc"}}) {
		t.Error("two fields")
	}
}
