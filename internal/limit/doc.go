// Package limit bounds what requests may use: how many are in flight, and how many are retries.
package limit
