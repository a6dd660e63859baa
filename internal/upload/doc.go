// Package upload is the body of a client's request on its way to an upstream: it is counted, limited, timed, retained in one
// buffer for retries and fallbacks, and read to its end after an early response.
package upload
