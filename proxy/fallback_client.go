package proxy

import (
	"maps"
	"net/http"

	"cbproxy/fallbacks"
	"cbproxy/internal/message"
	"cbproxy/internal/upstream"
)

// fallbackClient is the client of a request that a chain of fallbacks answers.
type fallbackClient struct{ *exchange }

// Request implements fallbacks.Client.
func (q fallbackClient) Request() *fallbacks.Request { return q.request(q.endToEnd()) }

// Body implements fallbacks.Client.
func (q fallbackClient) Body(limit int64) ([]byte, error) { return q.upload.ReadRest(limit) }

// recordingClient is the client of a request whose response a chain of fallbacks may record.
type recordingClient struct{ *attempt }

// Request implements fallbacks.Client.
func (e recordingClient) Request() *fallbacks.Request { return e.x.request(e.requestHeader) }

// Body implements fallbacks.Client.
func (e recordingClient) Body(limit int64) ([]byte, error) { return e.x.upload.Complete(limit) }

func (x *exchange) request(header http.Header) *fallbacks.Request {
	return &fallbacks.Request{
		Service: x.route.service.name, Method: x.r.Method, Host: x.r.Host,
		Path: message.RawPath(x.r), Rest: x.upstreamPath, Query: x.r.URL.RawQuery, EmptyQuery: x.r.URL.ForceQuery, Header: header,
	}
}

// endToEnd returns the fields of a client's request as ReverseProxy and rewrite send them upstream, without those that frame
// or announce a body. It shares their values.
func (x *exchange) endToEnd() http.Header {
	r := x.r
	h := maps.Clone(r.Header)
	upstream.RemoveHopByHop(h)
	for name := range h {
		if message.IsProxyField(name) {
			delete(h, name)
		}
	}
	delete(h, "Content-Length")
	delete(h, "Expect")
	message.SetForwarded(h, r)
	x.route.via.Add(h, r)
	return h
}
