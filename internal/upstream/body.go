package upstream

import (
	"context"
	"net/http"
)

// CloseBodyWith closes the body of res when ctx, the request's context, ends, unless stop is called before. It is needed for
// HTTP/2 requests with a body: while the body waits for the peer's flow control, http.Transport does not end a read of the
// response's body when the context ends.
func CloseBodyWith(ctx context.Context, res *http.Response) (stop func() bool) {
	body := res.Body // which the caller may replace
	return context.AfterFunc(ctx, func() { _ = body.Close() })
}
