// Package breaker implements the circuit breaker that decides whether a call to an upstream is admitted. It is built on gobreaker
// and adds what gobreaker does not have:
//
//   - a clock of its own, which can be replaced, and a timer, so that the open state ends without traffic;
//   - algorithms, registered by name, that open a closed breaker by what they count: the ratios of failed and of slow calls in a
//     window of time or of calls, or the burn rate of an error budget; or that reject a share of the calls instead;
//   - a backoff that makes consecutive open periods longer while recovery fails;
//   - a ramp, so that a breaker that has closed lets a growing share of the calls through;
//   - open periods that last until the time that the upstream's answers have named (Retry-After);
//   - states that are set from outside, forced or restored, with a remaining duration;
//   - breakers for keys of calls, such as tenants, within that of a service, which then does not open because of one key alone;
//   - a policy that can change while calls are in flight.
//
// Terms:
//
//   - An opening is a transition to the open state. The open period is the time from there until the breaker becomes
//     half-open.
//   - A probe is a call that is admitted while the breaker is half-open, whether it is a client's request or not. An active
//     probe is one that the proxy sends only to test the upstream.
//   - A permit allows one probe. A half-open breaker has Policy.HalfOpenRequests of them.
//   - A limiter is an algorithm that rejects calls while the breaker is closed. Its rejections are not failures, and do not change
//     the state.
//
// A report becomes a transition in these steps. Call.Success, Failure, Cancel or Abandon passes an outcome to the gobreaker of
// the engine that admitted the call. Under its lock, gobreaker asks the engine how to count it (see engine.isExcluded) and, if
// its own state changes, calls engine.recordTransition, which only stores the change. Call.reportOutcome then finds it by
// engine.hasPending and calls Breaker.applyTransitions, which takes the breaker's lock, makes the next phase the current one and
// publishes the event.
package breaker
