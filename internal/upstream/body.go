package upstream

import (
	"context"
	"net/http"
)

// CloseBodyWith closes the body of res when ctx, the request's context, ends, unless stop is called before. It is for
// requests with a body: over HTTP/2, as long as that waits for the peer's flow control, http.Transport does not end
// the read of a response that has begun.
func CloseBodyWith(ctx context.Context, res *http.Response) (stop func() bool) {
	body := res.Body // which the caller may replace
	return context.AfterFunc(ctx, func() { _ = body.Close() })
}
