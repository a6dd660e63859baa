package app

import (
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/breaker/keyed"
	"cbproxy/internal/events"
)

// Keys implements admin.Backend.
func (b *adminBackend) Keys(service string) (admin.KeyList, bool) {
	r := b.active.config().Routes[service]
	if r == nil {
		return admin.KeyList{}, false
	}
	list := admin.KeyList{Service: service, Max: r.Breaker.By.Max, Keys: []admin.Key{}}
	keys, header := b.server.Keys(service)
	if keys == nil {
		return list, true
	}
	list.Header = header
	for _, s := range keys.List() {
		list.Keys = append(list.Keys, admin.NewKey(s))
	}
	return list, true
}

// ForceKey implements admin.Backend.
func (b *adminBackend) ForceKey(service, key string, state events.State, d time.Duration, reason string) (events.KeyStatus, error) {
	keys, _ := b.server.Keys(service)
	if keys == nil {
		return events.KeyStatus{}, keyed.ErrClosed
	}
	if err := keys.Force(key, state, d, reason); err != nil {
		return events.KeyStatus{}, err
	}
	return keys.Status(key), nil
}

// ReleaseKey implements admin.Backend.
func (b *adminBackend) ReleaseKey(service, key, reason string) (events.KeyStatus, error) {
	keys, _ := b.server.Keys(service)
	if keys == nil {
		return events.KeyStatus{}, keyed.ErrClosed
	}
	keys.Release(key, reason)
	return keys.Status(key), nil
}
