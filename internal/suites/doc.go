// Package suites runs third-party test suites against the real binary: gRPC's interoperability tests, h2spec's HTTP/2
// conformance tests, and Toxiproxy's network faults. It is a separate module, so that building cbproxy does not download
// them.
package suites
