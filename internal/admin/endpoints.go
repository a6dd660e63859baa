package admin

import (
	"time"

	"cbproxy/internal/events"
)

// Endpoint is the status of one endpoint of a service.
type Endpoint struct {
	URL   string               `json:"url"`
	State events.EndpointState `json:"state"`
	// Until is when the ejection ends; null if it is not ejected.
	Until *time.Time `json:"until"`
	// InFlight is the number of attempts in flight.
	InFlight int64 `json:"in_flight"`
	// FailCounter is the number of consecutive failures.
	FailCounter int `json:"fail_counter"`
	// Ejections counts the ejections since the endpoint was added.
	Ejections uint64 `json:"ejections"`
	// LastError is its last failure; null if there was none.
	LastError *events.Failure `json:"last_error"`
}

// NewEndpoints returns the API's form of the status of a service's endpoints. It is never nil.
func NewEndpoints(statuses []events.EndpointStatus) []Endpoint {
	list := make([]Endpoint, 0, len(statuses))
	for _, s := range statuses {
		list = append(list, Endpoint{
			URL: s.URL, State: s.State, Until: TimeOrNil(s.Until), InFlight: s.InFlight, FailCounter: s.FailCounter, Ejections: s.Ejections, LastError: s.LastFailure,
		})
	}
	return list
}
