// Package service holds the services and routes of the current configuration, and sends the requests that the proxy itself makes
// to upstreams: active probes and deliveries of queued requests.
//
//   - A [Service] is what survives reloads, as long as a configuration has a service of its name: the breaker, the limits and
//     the time of the last success.
//   - A [Route] is immutable. It is what one configuration says about one service: the configured values, the connection pool
//     and the fallback chain. Each configuration makes a new Route for each Service.
//   - A [Snapshot] is all routes of one configuration. A request uses one snapshot from its start to its end.
//   - A [Manager] has the current snapshot, and replaces it when a configuration is applied.
package service
