// Package grpc is what a proxy has to know of the gRPC protocol: content types, timeouts and status codes on the wire. It
// implements neither clients nor servers.
//
// Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md and statuscodes.md beside it.
package grpc
