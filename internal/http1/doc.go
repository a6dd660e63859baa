// Package http1 is a fast path for plain HTTP/1.1, on the server side and on the client side.
//
// A [Server] reads requests and calls the handler on one goroutine per connection. A [Transport] sends requests and reads
// responses on the caller's goroutine. net/http uses additional goroutines for each request on a server and for each connection of
// a transport, and spends much of its time on passing requests between them.
//
// Both handle only messages that all recipients understand alike. A Server hands off a connection with any other request,
// together with the bytes it has read. A Transport accepts only requests for which [CanSend] is true, and
// parses unusual responses with [net/http.ReadResponse].
package http1
