package proxy

import (
	"maps"
	"net/http"
	"net/http/httputil"

	"cbproxy/internal/message"
	"cbproxy/internal/upstream"
)

// rewrite makes the upstream request of the client's, except for its address: see attempt.chooseEndpoint. ReverseProxy has already removed the hop-by-hop fields, so that a
// client's Connection field can't remove what is set here.
func rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	u := pr.Out.URL
	u.RawQuery, u.ForceQuery = pr.In.URL.RawQuery, pr.In.URL.ForceQuery // byte for byte: ReverseProxy drops what it can't parse
	if !x.route.Config.PreserveHost {
		pr.Out.Host = ""
	}
	x.replaceProxyFields(pr.Out.Header)
	x.upload.ForwardTrailers(pr.In, pr.Out)
}

// replaceProxyFields removes the fields of a client's request that the proxy sets or removes, and adds the proxy's own.
func (x *exchange) replaceProxyFields(h http.Header) {
	for name := range h {
		if message.IsProxyField(name) {
			delete(h, name)
		}
	}
	message.SetForwarded(h, x.r, x.strippedPrefix)
	x.route.Via.Add(h, x.r)
}

// endToEndHeader returns the end-to-end fields of the client's request, with those that the proxy sets, and without those that
// frame or announce a body. It is the header that fallback strategies get, both when a response is recorded and when one is
// needed, so that the request is the same in both cases: the upstream request has fields for its connection (TE, Upgrade), and an
// empty User-Agent if the client sent none. It shares the values of the client's header.
func (x *exchange) endToEndHeader() http.Header {
	h := maps.Clone(x.r.Header)
	upstream.RemoveHopByHop(h)
	delete(h, "Content-Length")
	delete(h, "Expect")
	x.replaceProxyFields(h)
	return h
}

// removeHopByHop deletes the hop-by-hop fields of the attempt's response, before anything else reads its header, and returns its
// Upgrade field.
func (a *attempt) removeHopByHop(res *http.Response) (protocol string) {
	if a.conn != nil {
		a.conn.RestoreFields(res.Header)
	}
	protocol = res.Header.Get("Upgrade")
	a.hopByHop = upstream.RemoveHopByHop(res.Header)
	return protocol
}

// rewriteLocation makes the addresses in a response lead through the proxy, see upstream.Target.RewriteLocation. It is called before the
// response is recorded for the cache, whose answers then need no rewriting: the prefix is part of the cache key.
func (a *attempt) rewriteLocation(res *http.Response) {
	x := a.x
	if !x.route.Config.RewriteLocation {
		return
	}
	m := upstream.Mount{Prefix: x.strippedPrefix, Path: x.upstreamPath}
	if x.route.Config.PreserveHost {
		m.Host = x.r.Host
	}
	a.lease.Target.RewriteLocation(res.Header, m)
}

// removeTrailerFields deletes the hop-by-hop fields and the proxy's own from the response's trailers. It is called when the
// announced trailers are known, and again when all are.
func (a *attempt) removeTrailerFields(res *http.Response) {
	upstream.RemoveHopByHopTrailers(res.Trailer, a.hopByHop)
	message.RemoveProxyResponseFields(res.Trailer)
}
