package app

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
	"cbproxy/routes"
)

// overlaid is a configuration with overrides. It is never modified.
type overlaid struct {
	config *routes.Config // base with the overrides
	base   *routes.Config // file and environment
	// overrides are those in force, by service, and keys the complete paths of their keys.
	overrides map[string]events.Overrides
	keys      map[string][]string // sorted
	// ended are the overrides that are not in force any more: they have expired, or do not fit base.
	ended []events.OverridesChanged
}

// overlay returns base with those of the overrides that are in force and fit it.
func (r *reloader) overlay(base *routes.Config, overrides map[string]events.Overrides) overlaid {
	o := overlaid{config: base, base: base, overrides: map[string]events.Overrides{}, keys: map[string][]string{}}
	now := time.Now()
	for _, service := range slices.Sorted(maps.Keys(overrides)) { // in an order, as the hash depends on it
		wanted := overrides[service]
		ended := events.OverridesChanged{Time: now.UTC(), Service: service, Overrides: wanted}
		if !now.Before(wanted.Until) {
			ended.Cause = events.OverridesExpired
			o.ended = append(o.ended, ended)
			continue
		}
		next, keys, err := r.withOverrides(o.config, service, wanted)
		if err != nil {
			ended.Cause, ended.Error = events.OverridesDropped, err.Error()
			o.ended = append(o.ended, ended)
			continue
		}
		o.config, o.overrides[service], o.keys[service] = next, wanted, keys
	}
	return o
}

// withOverrides returns c with the overrides of one service, and the complete paths of their keys. The error is admin.ErrUnknownService,
// or an *admin.InvalidKeysError.
func (r *reloader) withOverrides(c *routes.Config, service string, o events.Overrides) (*routes.Config, []string, error) {
	if c.Routes[service] == nil {
		return nil, nil, admin.ErrUnknownService
	}
	set, err := json.Marshal(o.Set)
	if err != nil {
		return nil, nil, err
	}
	next, keys, err := r.loader.WithRoute(c, service, set)
	return next, keys, invalidKeys(err)
}

// applyBase applies a configuration of file and environment with overrides. Overrides never prevent that: those that do not fit are not
// in the result.
func (r *reloader) applyBase(base *routes.Config, overrides map[string]events.Overrides) (overlaid, error) {
	next := r.overlay(base, overrides)
	err := r.apply(next.config)
	if err == nil || len(next.overrides) == 0 {
		return next, err
	}
	without := r.overlay(base, nil)
	if baseErr := r.apply(base); baseErr != nil {
		return without, baseErr
	}
	without.ended = next.ended
	for _, service := range slices.Sorted(maps.Keys(next.overrides)) {
		without.ended = append(without.ended, events.OverridesChanged{
			Time: time.Now().UTC(), Service: service, Cause: events.OverridesDropped, Overrides: next.overrides[service], Error: err.Error(),
		})
	}
	return without, nil
}

// activate makes a configuration that has been applied the active one, with the given status, and publishes and stores which overrides
// have ended thereby.
func (r *reloader) activate(next overlaid, status admin.ConfigStatus) {
	ended := next.ended
	next.ended = nil
	status.Hash = next.config.Hash
	var dropped []admin.DroppedOverrides
	for _, e := range ended {
		if e.Cause == events.OverridesDropped {
			dropped = append(dropped, admin.DroppedOverrides{Service: e.Service, Set: e.Overrides.Set, Time: e.Time, Error: e.Error})
		}
	}
	if dropped != nil {
		status.OverridesDropped = dropped
	}
	r.active.Store(&loadedConfig{next, status})
	if len(ended) > 0 {
		_ = r.saveOverrides() // which logs the error
	}
	for _, e := range ended {
		r.bus.Publish(e)
	}
	select {
	case r.overridesChanged <- struct{}{}:
	default:
	}
}

// saveOverrides stores the overrides that are in force. It logs the first error in a row; runOverrides retries.
func (r *reloader) saveOverrides() error {
	err := r.overridesFile.Save(r.active.Load().overrides)
	if err != nil && !r.unsaved {
		r.logger.Error("cannot store the overrides, retrying", "error", err)
	} else if err == nil && r.unsaved {
		r.logger.Info("overrides stored again")
	}
	r.unsaved = err != nil
	return err
}

// changeOverrides applies and stores other overrides of a service; none if wanted is nil. The error is an *admin.NotPersistedError if
// they are in force, but not stored. Any other error means that nothing has changed.
func (r *reloader) changeOverrides(service string, wanted *events.Overrides) (before, after overlaid, err error) {
	loaded := r.active.Load()
	if _, found := loaded.overrides[service]; wanted == nil && !found {
		return loaded.overlaid, loaded.overlaid, nil
	}
	changed := maps.Clone(loaded.overrides)
	delete(changed, service)
	if wanted != nil {
		changed[service] = *wanted
	}
	next := r.overlay(loaded.base, changed)
	if err := r.apply(next.config); err != nil {
		return loaded.overlaid, loaded.overlaid, err
	}
	r.activate(next, loaded.status)
	if err := r.saveOverrides(); err != nil {
		return loaded.overlaid, next, &admin.NotPersistedError{Err: err}
	}
	return loaded.overlaid, next, nil
}

const (
	retryOverrides = time.Second // between two attempts to end or store overrides
	checkOverrides = time.Minute // between two looks at the clock, which may have been set
)

// runOverrides ends overrides when their time is up, until ctx is done.
func (r *reloader) runOverrides(ctx context.Context) {
	for {
		timer := time.NewTimer(r.endExpired())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.overridesChanged:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// endExpired ends the overrides whose time is up, and returns the time until it is to be called again.
func (r *reloader) endExpired() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	loaded := r.active.Load()
	if loaded.remaining() <= 0 {
		next := r.overlay(loaded.base, loaded.overrides)
		if err := r.apply(next.config); err != nil {
			r.logger.Error("cannot end overrides whose time is up, retrying", "error", err)
			return retryOverrides
		}
		r.activate(next, loaded.status)
	} else if r.unsaved {
		_ = r.saveOverrides() // which logs the error
	}
	wait := r.active.Load().remaining()
	if r.unsaved {
		return min(wait, retryOverrides)
	}
	return wait
}

// remaining returns the time until the first overrides end, at most checkOverrides.
func (o *overlaid) remaining() time.Duration {
	next := checkOverrides
	for _, overrides := range o.overrides {
		next = min(next, time.Until(overrides.Until))
	}
	return next
}

// invalidKeys returns the error of WithBreaker or WithRoute as an *admin.InvalidKeysError, without the positions of the faults.
func invalidKeys(err error) error {
	faults := (routes.Faults)(nil)
	if !errors.As(err, &faults) {
		return err
	}
	invalid := &admin.InvalidKeysError{}
	for _, f := range faults {
		invalid.Faults = append(invalid.Faults, f.Path+": "+f.Message)
	}
	return invalid
}
