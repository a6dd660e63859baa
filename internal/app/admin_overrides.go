package app

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/configdiff"
	"cbproxy/internal/events"
	"cbproxy/internal/override"
	"cbproxy/routes"
)

// Overrides implements admin.Backend.
func (b *adminBackend) Overrides(service string) (admin.Overrides, bool) {
	loaded := b.active.Load()
	if loaded.base.Routes[service] == nil {
		return admin.Overrides{}, false
	}
	shown := overridesOf(service, &loaded.overlaid)
	shown.Changes = changesOf(service, loaded.base, loaded.config)
	return shown, true
}

// CheckOverrides implements admin.Backend.
func (b *adminBackend) CheckOverrides(service string, set json.RawMessage) error {
	base := b.active.Load().base
	if base.Routes[service] == nil {
		return admin.ErrUnknownService
	}
	_, _, err := b.loader.WithRoute(base, service, set)
	return invalidKeys(err)
}

// SetOverrides implements admin.Backend.
func (b *adminBackend) SetOverrides(service string, set json.RawMessage, d time.Duration, reason string) (admin.Overrides, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.CheckOverrides(service, set); err != nil { // the configuration may have changed since the last time
		return admin.Overrides{}, err
	}
	now := time.Now().UTC().Round(time.Millisecond) // without a monotonic reading: the end is a time of the clock, as after a restart
	o := events.Overrides{Set: override.Flatten(set), Since: now, Until: now.Add(d), Reason: reason}
	before, after, err := b.changeOverrides(service, &o)
	pending := (*admin.NotPersistedError)(nil)
	if err != nil && !errors.As(err, &pending) {
		return admin.Overrides{}, err
	}
	b.bus.Publish(events.OverridesChanged{Time: now, Service: service, Cause: events.OverridesSet, Overrides: o})
	shown := overridesOf(service, &after)
	shown.Changes = changesOf(service, before.config, after.config)
	if b.overridesFile == nil {
		shown.NotPersisted = "the overrides are in force until the process ends: there is no data_dir to store them in"
	}
	return shown, err
}

// EndOverrides implements admin.Backend.
func (b *adminBackend) EndOverrides(service, reason string) (admin.Overrides, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.active.Load().base.Routes[service] == nil {
		return admin.Overrides{}, admin.ErrUnknownService
	}
	before, after, err := b.changeOverrides(service, nil)
	pending := (*admin.NotPersistedError)(nil)
	if err != nil && !errors.As(err, &pending) {
		return admin.Overrides{}, err
	}
	if o, found := before.overrides[service]; found {
		b.bus.Publish(events.OverridesChanged{Time: time.Now().UTC(), Service: service, Cause: events.OverridesEnded, Overrides: o, Reason: reason})
	}
	shown := overridesOf(service, &before)
	shown.Changes = changesOf(service, before.config, after.config)
	return shown, err
}

// overridesOf returns the overrides of a service, which the configuration has, without Changes.
func overridesOf(service string, loaded *overlaid) admin.Overrides {
	o := loaded.overrides[service]
	shown := admin.Overrides{
		Set: o.Set, Since: admin.TimeOrNil(o.Since), Until: admin.TimeOrNil(o.Until), Reason: o.Reason, Keys: []admin.OverriddenKey{},
	}
	if shown.Set == nil {
		shown.Set = map[string]json.RawMessage{}
	}
	for _, key := range loaded.keys[service] {
		shown.Keys = append(shown.Keys, admin.OverriddenKey{
			Key: key, FileValue: loaded.base.Routes[service].Value(key), Value: loaded.config.Routes[service].Value(key),
		})
	}
	return shown
}

// changesOf returns what changes for a service from one configuration to the next.
func changesOf(service string, old, next *routes.Config) []admin.ConfigChange {
	changes := []admin.ConfigChange{}
	for _, c := range configdiff.Compare(old, next) {
		if strings.HasPrefix(c.Key, "routes."+service+".") {
			changes = append(changes, admin.ConfigChange{Key: c.Key, Change: c.Values(), Effect: c.Effect()})
		}
	}
	return changes
}

// overriddenKeys returns the overridden keys by service, for a scrape.
func (a *activeConfig) overriddenKeys() map[string][]string { return a.Load().keys }
