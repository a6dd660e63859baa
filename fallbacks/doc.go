// Package fallbacks produces the responses that clients get while an upstream is unavailable.
//
// It holds the Strategy interface, the registry that maps names to strategies, and the Chain
// that tries a route's strategies in order. Each built-in strategy has a folder of its own below
// this package; package standard registers them.
//
// A Strategy may also implement these interfaces, those marked * only if its Factory is Inline:
//
//	interface         if the strategy            used                           built-in strategies
//	BodyReader        uses request bodies        for each request it may answer cache, http, queue, template, upstream
//	TimeLimited       has its own time limit     when the chain is built        http, upstream
//	Starter           has background work        when it takes effect           cache, http, queue, upstream
//	io.Closer         must release resources     after its last request         http, upstream
//	Constant *        has one answer for all     when the chain is built        static
//	NonBlocking *     never blocks in Answer     when the chain is built        cache
//	Observer *        records responses          for each response              cache
//	Interceptor *     may answer although the    for each request               queue
//	                  upstream is available
//	CacheReporter *   has a cache                for each scrape of metrics     cache
//	BreakerReporter * has a circuit breaker      for each scrape of metrics     upstream
package fallbacks
