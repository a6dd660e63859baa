// Package fleet shares the state of circuit breakers between the instances that use the same Redis:
// that an upstream has failed, until when its breakers are open, which instance probes it, and the
// result of its probes. PROTOCOL.md describes the protocol and its guarantees. No call to an
// upstream waits for this package.
package fleet
