package proxy

import (
	"maps"
	"net/http"

	"cbproxy/fallbacks"
	"cbproxy/internal/message"
	"cbproxy/internal/upstream"
)

// questioner is an exchange's client as a chain of fallbacks sees it that answers it.
type questioner struct{ *exchange }

// Request implements fallbacks.Client.
func (q questioner) Request() *fallbacks.Request { return q.request(q.endToEnd()) }

// Body implements fallbacks.Client.
func (q questioner) Body(limit int64) ([]byte, error) { return q.upload.rest(limit) }

// example is an exchange's client as a chain of fallbacks sees it that learns from an attempt's
// response.
type example struct{ *attempt }

// Request implements fallbacks.Client.
func (e example) Request() *fallbacks.Request { return e.x.request(e.asked) }

// Body implements fallbacks.Client.
func (e example) Body(limit int64) ([]byte, error) { return e.x.upload.known(limit) }

func (x *exchange) request(header http.Header) *fallbacks.Request {
	return &fallbacks.Request{
		Service: x.route.service.name, Method: x.r.Method, Host: x.r.Host,
		Path: message.RawPath(x.r), Rest: x.rest, Query: x.r.URL.RawQuery, EmptyQuery: x.r.URL.ForceQuery, Header: header,
	}
}

// endToEnd returns the fields of a client's request as ReverseProxy and rewrite send them
// upstream, without those that frame or announce a body. It shares their values.
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
