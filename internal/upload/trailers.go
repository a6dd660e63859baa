package upload

import (
	"maps"
	"net/http"
	"slices"

	"cbproxy/internal/message"
	"cbproxy/internal/upstream"
)

// ForwardTrailers forwards the announced trailer fields of the client's request with out, except those that are the proxy's own.
func (b *Body) ForwardTrailers(in, out *http.Request) {
	if len(in.Trailer) == 0 {
		return
	}
	b.trailer = in.Trailer
	upstream.RemoveHopByHopTrailers(b.trailer, upstream.ConnectionOptions(in.Header))
	maps.DeleteFunc(b.trailer, func(name string, _ []string) bool { return message.IsProxyField(name) || forbiddenTrailers[name] })
	b.announced = slices.Collect(maps.Keys(b.trailer))
	out.Trailer = b.trailer // the same map: its values are set at the body's end
}

// forbiddenTrailers are fields that route, describe or authenticate a request. An upstream that merges trailers into the header must
// not get them that way (RFC 9110, section 6.5.1). net/http rejects those that frame the message.
var forbiddenTrailers = map[string]bool{
	"Host": true, "Via": true,
	"Authorization": true, "Cookie": true, "Expect": true, "Content-Encoding": true, "Content-Type": true, "Content-Range": true,
}
