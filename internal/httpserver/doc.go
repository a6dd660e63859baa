// Package httpserver serves HTTP/1.1 and HTTP/2 without TLS on one port.
//
// Each connection starts on the fast path, a [cbproxy/internal/http1.Server], which handles plain HTTP/1.1 requests. At the
// first request that is not plain, the connection moves to net/http's server and stays there.
//
// Around net/http's server the package adds three things: it closes connections whose request framing is ambiguous
// (RFC 9112, section 6.1), it replaces net/http's plain-text error responses with problem details (RFC 9457), and it limits
// how long a write to a client may block.
package httpserver
