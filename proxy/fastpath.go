package proxy

import (
	"net/http"
	"net/http/httptrace"

	"cbproxy/internal/httpserver"
)

// roundTrip sends the attempt's request to the upstream: on the fast path if the request is plain and its body has arrived,
// and otherwise by http.Transport.
func (a *attempt) roundTrip(out *http.Request) (*http.Response, error) {
	x, p := a.x, a.x.route.pool
	if x.route.config.Transport == "auto" && p.TakesFast(out) && (out.Body == nil || x.bodyArrived() && x.upload.Gather()) {
		res, sent, err := p.RoundTripFast(out)
		if sent {
			return res, err
		}
		if out.Body != nil {
			out.Body, _ = x.upload.NewReader() // all of it is retained
		}
	}
	a.hook(httptrace.ContextClientTrace(out.Context()))
	return p.RoundTrip(out)
}

// bodyArrived reports whether reading the request's body does not block.
func (x *exchange) bodyArrived() bool {
	c, ok := httpserver.ConnOf(x.r.Context())
	return x.upload.Arrived() || ok && x.r.ProtoMajor == 1 && (x.upload.BytesRead() > 0 || c.BodyArriving())
}
