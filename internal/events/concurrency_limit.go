package events

// ConcurrencyLimit is the limit on a service's requests in flight, max_in_flight, at one moment.
type ConcurrencyLimit struct {
	// Limit is the limit in force, and InFlight the number of requests that it counts.
	Limit    int64 `json:"limit"`
	InFlight int64 `json:"in_flight"`
	// Auto is whether max_in_flight is auto.
	Auto bool `json:"auto"`
}
