// Package healthcheck asks an upstream whether it is healthy: with a GET request, or with the health checking protocol of gRPC.
package healthcheck

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cbproxy/internal/message"
	"cbproxy/internal/upstream"
)

// Check is how an upstream is checked. It must not be modified after its first use. Do is safe for concurrent use.
type Check struct {
	// Path, with an optional query, of the GET request below the upstream's URL. It is not used if GRPC is set.
	Path string
	// GRPC selects the health checking protocol of gRPC. The upstream is asked for the health of the whole server.
	GRPC bool
	// Timeout limits a check, including the part of the response that is read.
	Timeout time.Duration
	// Via is added to the request.
	Via *message.Via
	// Evaluate returns the error of a response with a status and a header section; nil if its status is that of a healthy upstream.
	// A class without an upstream failure means that the response counts neither as a success nor as a failure.
	Evaluate func(status int, header http.Header) (upstream.ErrorClass, error)
}

// Do checks the upstream at target over the connections of p. It returns nil if the upstream is healthy, and an error without an
// upstream failure if it is unknown whether it is.
func (c *Check) Do(ctx context.Context, p *upstream.Pool, target upstream.Target, o upstream.DoOptions) *upstream.Error {
	request, evaluate := c.get, evaluateGet
	if c.GRPC {
		request, evaluate = c.call, evaluateCall
	}
	res, err := p.Do(request(target).WithContext(ctx), c.Timeout, o)
	if err != nil {
		return err
	}
	defer res.Close()
	if class, statusErr := c.Evaluate(res.StatusCode, res.Header); statusErr != nil {
		return &upstream.Error{ErrorClass: class, Connected: true, Err: statusErr}
	}
	return evaluate(res)
}

// newRequest returns a request for a path below the upstream's, in the form in which clients' requests are sent.
func (c *Check) newRequest(target upstream.Target, method, path, query string, forceQuery bool) *http.Request {
	u := &url.URL{RawQuery: query, ForceQuery: forceQuery}
	target.SetURL(u, path)
	r := &http.Request{Method: method, URL: u, Header: http.Header{"User-Agent": {"cbproxy-probe"}}, ProtoMajor: 1, ProtoMinor: 1}
	c.Via.AddOnce(r.Header)
	return r
}

func (c *Check) get(target upstream.Target) *http.Request {
	path, query, hasQuery := strings.Cut(c.Path, "?")
	return c.newRequest(target, http.MethodGet, path, query, hasQuery && query == "")
}

// maxDiscarded is how many bytes of the body of a response to a GET request are read, so that its connection can be reused.
const maxDiscarded = 64 << 10

// evaluateGet evaluates the body of a response to a GET request. The upstream is healthy by the header section alone, except that a
// short body of known length must arrive as well: a stream may never end.
func evaluateGet(res *upstream.Response) *upstream.Error {
	if res.ContentLength < 0 || res.ContentLength > maxDiscarded {
		return nil
	}
	return res.Discard(maxDiscarded)
}
