// Package breaker implements the circuit breaker that decides whether a call to an upstream is
// admitted. It is built on gobreaker and adds what gobreaker does not have:
//
//   - a timer, so that an opening ends without traffic;
//   - a rolling window for the ratios of failed and of slow calls;
//   - a backoff that makes consecutive openings longer while recovery fails;
//   - states that are set from outside, forced or restored, with a remaining duration;
//   - a policy that can change while calls are in flight.
//
// An opening is the time from the transition to the open state until the breaker becomes
// half-open. A probe is a call that is admitted while the breaker is half-open.
package breaker
