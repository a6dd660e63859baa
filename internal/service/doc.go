// Package service holds the services and routes of the current configuration: what a service keeps across reloads (breaker,
// connections, limits, last failure), what a route is under one configuration, and the requests that the proxy sends to
// upstreams by itself, which are probes and deliveries of queued requests.
package service
