package upstream

import "strings"

// IsGRPCMediaType reports whether a Content-Type is application/grpc or one of its variants.
func IsGRPCMediaType(contentType string) bool {
	const grpc = "application/grpc"
	return len(contentType) >= len(grpc) && strings.EqualFold(contentType[:len(grpc)], grpc)
}
