// Package upstream sends requests to upstreams: it resolves and dials host names, pools connections, removes hop-by-hop fields
// and classifies the errors of failed requests.
//
// A [Pool] holds the connections to one upstream. Requests of clients are sent with Pool.RoundTrip, or with Pool.RoundTripFast if
// they are plain, and package proxy handles their errors. Requests that the proxy itself makes are sent with Pool.Do, or with a
// [Client] if only the complete response is of interest; these handle timeouts and errors themselves.
//
// The strategy upstream is in package fallbacks/upstream, and the configured URL is routes.Upstream.
package upstream
