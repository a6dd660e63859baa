// Package balance chooses the endpoint for each attempt of a service that has several, and ejects endpoints that fail.
//
//   - A [Source] is what the configuration says: the URL of one endpoint, or a name each of whose addresses is an endpoint.
//   - An [Endpoint] has its own connection pool, its number of attempts in flight and its row of failures. Sets of consecutive
//     configurations share it if it stays the same.
//   - A [Set] is the endpoints of one configuration of a service. DNS may change its list.
//   - A [Lease] is the use of an endpoint by one attempt. The outcome of the attempt is reported to it.
//
// An endpoint that fails several times in a row is ejected: it gets no requests for a time, which grows with each ejection in a row.
// Then one request, or a health check, is its trial. Never more than a share of the endpoints is ejected, and never the last one.
package balance
