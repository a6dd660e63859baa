// Package suites puts test suites that others wrote through the real binary: gRPC's
// interoperability tests, h2spec's HTTP/2 conformance tests, and Toxiproxy's broken
// networks. It is a module of its own, so that nobody who builds cbproxy downloads them.
package suites
