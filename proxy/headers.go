package proxy

import (
	"cbproxy/internal/message"
	"net/http/httputil"
)

// rewrite makes the upstream request of the client's. ReverseProxy has already removed the hop-by-hop fields, so that a
// client's Connection field can't remove what is set here.
func rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	u := pr.Out.URL
	x.route.Target.SetURL(u, x.upstreamPath)
	u.RawQuery, u.ForceQuery = pr.In.URL.RawQuery, pr.In.URL.ForceQuery // byte for byte: ReverseProxy drops what it can't parse
	if !x.route.Config.PreserveHost {
		pr.Out.Host = ""
	}
	for name := range pr.Out.Header {
		if message.IsProxyField(name) {
			delete(pr.Out.Header, name)
		}
	}
	message.SetForwarded(pr.Out.Header, pr.In)
	x.route.Via.Add(pr.Out.Header, pr.In)
	x.upload.ForwardTrailers(pr.In, pr.Out)
}
