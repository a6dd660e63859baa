package service

import (
	"context"
	"fmt"
	"time"

	"cbproxy/internal/balance"
	"cbproxy/internal/events"
	"cbproxy/internal/upstream"
)

// pick returns a lease on the endpoint for a request that the proxy itself makes. It waits for the first address of a name, at most for
// timeout. An error without an upstream failure counts neither as a success nor as a failure.
func (rt *Route) pick(ctx context.Context, timeout time.Duration) (balance.Lease, *upstream.Error) {
	limited, cancel := context.WithTimeoutCause(ctx, timeout, upstream.NewConnectError(fmt.Errorf("no address of the upstream is known after %v", timeout)))
	defer cancel()
	lease, err := rt.Endpoints.Pick(limited)
	switch {
	case err == nil:
		return lease, nil
	case ctx.Err() != nil:
		return lease, &upstream.Error{Err: context.Cause(ctx)}
	}
	return lease, &upstream.Error{ErrorClass: upstream.Classify(err, upstream.NotConnected), Err: err}
}

// Endpoints returns the status of a service's endpoints, in the order of the configuration; nil if there is no such service.
func (m *Manager) Endpoints(service string) []events.EndpointStatus {
	snap := m.Acquire()
	defer snap.Release()
	if rt := snap.routesByService[service]; rt != nil {
		return rt.Endpoints.Status()
	}
	return nil
}

// EndpointStatuses returns the status of the endpoints of all services, by name.
func (m *Manager) EndpointStatuses() map[string][]events.EndpointStatus {
	snap := m.Acquire()
	defer snap.Release()
	all := make(map[string][]events.EndpointStatus, len(snap.routes))
	for _, rt := range snap.routes {
		all[rt.Service.Name] = rt.Endpoints.Status()
	}
	return all
}
