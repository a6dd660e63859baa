// Package fallbacks produces the responses that clients get while an upstream is unavailable.
//
// It holds the Strategy interface, the registry that maps names to strategies, and the Chain
// that tries a route's strategies in order. Each built-in strategy has a folder of its own below
// this package; package standard registers them.
package fallbacks
