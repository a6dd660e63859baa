package service

import "cbproxy/internal/events"

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
