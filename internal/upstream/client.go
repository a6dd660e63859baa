package upstream

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"cbproxy/internal/events"
)

// Client sends requests to one server and returns complete responses. It is safe for concurrent use.
type Client struct {
	// Pool holds the connections to the server.
	Pool *SharedPool
	// ReportLocalError, if not nil, is called for each request that failed because this machine lacked a resource. It is set
	// before the first request.
	ReportLocalError func(kind events.LocalError, err error)

	target      Target
	timeout     time.Duration
	maxResponse int64 // bytes of a response's body
}

// NewClient returns a client for the server at u that uses the connections of pool. timeout limits a request including its
// response, and maxResponse the size of a response's body in bytes.
func NewClient(u *url.URL, pool *SharedPool, timeout time.Duration, maxResponse int64) *Client {
	return &Client{Pool: pool, target: TargetOf(u), timeout: timeout, maxResponse: maxResponse}
}

// timeLimitMargin is how much longer than its client's timeout a strategy may take, so that the client reports the timeout.
const timeLimitMargin = time.Second

// TimeLimit returns the time limit for a strategy that uses c: the timeout plus a margin of a second.
func (c *Client) TimeLimit() time.Duration {
	return max(c.timeout, c.timeout+timeLimitMargin) // the sum may overflow
}

// NewRequest returns a request for path, which is appended to the path of the URL, and query. Both are sent byte for byte. The
// arguments must not be modified while http.Transport uses them, which may be longer than until the response arrives.
func (c *Client) NewRequest(method, path, query string, h http.Header, body []byte) *http.Request {
	r := &http.Request{Method: method, URL: &url.URL{RawQuery: query}, Header: h}
	c.target.SetURL(r.URL, path)
	if len(body) > 0 {
		r.ContentLength = int64(len(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
	}
	return r
}

// Fetched is a complete response.
type Fetched struct {
	Status int
	Header http.Header
	Body   []byte
}

// Fetch sends r and returns the complete response. accept is called with the status before the body is read; its error is
// returned as an *Error with the failure events.ErrorStatus. The caller may modify the header of the result.
func (c *Client) Fetch(ctx context.Context, r *http.Request, accept func(status int) error) (*Fetched, *Error) {
	f, err := c.fetch(ctx, r, accept)
	if err != nil && err.Local != "" && c.ReportLocalError != nil {
		c.ReportLocalError(err.Local, err)
	}
	return f, err
}

func (c *Client) fetch(ctx context.Context, r *http.Request, accept func(status int) error) (*Fetched, *Error) {
	res, reqErr := c.Pool.Do(r.WithContext(ctx), c.timeout, DoOptions{})
	if reqErr != nil {
		return nil, reqErr
	}
	defer res.Close()
	if res.StatusCode > 599 {
		return nil, malformedStatus(res.StatusCode)
	}
	if err := accept(res.StatusCode); err != nil {
		return nil, &Error{ErrorClass{Failure: events.ErrorStatus}, true, err}
	}
	body, bodyErr := res.ReadAll(c.maxResponse)
	if bodyErr != nil {
		return nil, bodyErr
	}
	return &Fetched{Status: res.StatusCode, Header: res.Header, Body: body}, nil
}

// RewriteLocation is Target.RewriteLocation for the client's server.
func (c *Client) RewriteLocation(h http.Header, m Mount) { c.target.RewriteLocation(h, m) }
