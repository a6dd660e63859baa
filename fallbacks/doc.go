// Package fallbacks produces the responses that clients get while an upstream is unavailable.
//
// It holds the Strategy interface, the registry that maps names to strategies, and the Chain
// that tries a route's strategies in order. Each built-in strategy has a folder of its own below
// this package; package standard registers them.
//
// A Strategy may also implement these interfaces. Those marked "inline only" have no effect unless the
// strategy's Factory is Inline.
//
//	interface       implemented by strategies that        method is called                    built-in strategies
//	BodyReader      use request bodies                    when the chain is built             cache, http, queue, template, upstream
//	TimeLimited     have their own time limit             when the chain is built             http, upstream
//	Starter         have background work                  when the configuration takes effect cache, http, queue, upstream
//	io.Closer       hold resources                        after the last request              http, upstream
//	Constant        have one answer for all (inline only) when the chain is built             static
//	NonBlocking     never block in Answer (inline only)   when the chain is built             cache
//	Storer          store requests for later              when the chain is built             queue
//	Tester          have effects that a test must not have when a client tests the fallback  cache, queue, upstream
//	Observer        record responses (inline only)        for each response                   cache
//	Interceptor     may answer although the upstream is   for each request                    queue
//	                available (inline only)
//	CacheReporter   have a cache (inline only)            for each scrape of metrics          cache
//	BreakerReporter have a circuit breaker (inline only)  for each scrape of metrics          upstream
//
// A chain calls all its Observers, and its Interceptors until one intercepts. A panic of a strategy,
// also one that is inline, does not affect the request: the chain logs it or returns it as an error.
package fallbacks
