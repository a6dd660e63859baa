package http1

import (
	"net"
	"net/textproto"
)

// HooksKey is the context key of a request's Hooks.
type HooksKey struct{}

// Hooks are called while a request is sent, on the goroutine that called RoundTrip. They correspond to those of
// httptrace.ClientTrace, which would need new closures for each request.
type Hooks interface {
	// GotConn is called for each connection that is used, before the first byte of the request is sent. If the context of
	// the request ends during the call, the request is not sent.
	GotConn(c net.Conn)
	// GotFirstResponseByte is called when the first byte of a response has arrived, before it is parsed.
	GotFirstResponseByte()
	// Got1xxResponse is called for each interim response. If it returns an error, the request fails with it.
	Got1xxResponse(code int, header textproto.MIMEHeader) error
}
