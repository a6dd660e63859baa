package service

import "cbproxy/internal/events"

// Endpoints returns the status of a service's endpoints; nil if there is no such service.
func (m *Manager) Endpoints(service string) []events.EndpointStatus {
	snap := m.Acquire()
	defer snap.Release()
	if rt := snap.routesByService[service]; rt != nil {
		return rt.endpointStatuses()
	}
	return nil
}

// EndpointStatuses returns the status of the endpoints of all services, by name.
func (m *Manager) EndpointStatuses() map[string][]events.EndpointStatus {
	snap := m.Acquire()
	defer snap.Release()
	all := make(map[string][]events.EndpointStatus, len(snap.routes))
	for _, rt := range snap.routes {
		all[rt.Service.Name] = rt.endpointStatuses()
	}
	return all
}

func (rt *Route) endpointStatuses() []events.EndpointStatus {
	all := make([]events.EndpointStatus, 0, len(rt.Config.Upstream))
	for _, e := range rt.Config.Upstream {
		all = append(all, events.EndpointStatus{URL: e.String(), State: events.EndpointIn})
	}
	return all
}
