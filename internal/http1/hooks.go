package http1

import (
	"net"
	"net/textproto"
)

// HooksKey is the key under which a request's context may have a Hooks as its value.
type HooksKey struct{}

// Hooks are told how a request fares, all on the goroutine that called RoundTrip. They are those of httptrace.ClientTrace,
// whose functions would have to be made for each request.
type Hooks interface {
	// GotConn comes with each connection, before the request's first byte is sent on it. A context that ends
	// meanwhile keeps the request from being sent.
	GotConn(c net.Conn)
	// GotFirstResponseByte comes before the response's first byte is looked at.
	GotFirstResponseByte()
	// Got1xxResponse comes with each interim response. An error ends the request.
	Got1xxResponse(code int, header textproto.MIMEHeader) error
}
