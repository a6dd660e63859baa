package events

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Overrides are values of keys of a route that an operator has set for a time. They take precedence over those of the configuration file
// and of the environment. They are never modified.
type Overrides struct {
	// Set has the values by the path of their key below the route, such as breaker.fail_max.
	Set    map[string]json.RawMessage `json:"set"`
	Since  time.Time                  `json:"since"`
	Until  time.Time                  `json:"until"`
	Reason string                     `json:"reason"`
}

// Keys returns the paths of the keys, sorted.
func (o Overrides) Keys() []string { return slices.Sorted(maps.Keys(o.Set)) }

// OverridesCause is why the overrides of a service have changed.
type OverridesCause string

// The causes of a change of overrides.
const (
	OverridesSet     OverridesCause = "set"     // an operator has set them; those before, if any, have ended
	OverridesEnded   OverridesCause = "ended"   // an operator has ended them
	OverridesExpired OverridesCause = "expired" // their time is up
	OverridesDropped OverridesCause = "dropped" // they are not valid together with a new configuration
)

// OverridesChanged is published when the overrides of a service have changed.
type OverridesChanged struct {
	Time    time.Time      `json:"time"`
	Service string         `json:"service"`
	Cause   OverridesCause `json:"cause"`
	// Overrides are those that are in force now if the cause is OverridesSet, or else those that were.
	Overrides Overrides `json:"overrides"`
	// Reason is the operator's reason for ending them.
	Reason string `json:"reason,omitempty"`
	// Error is why they were dropped, one fault a line.
	Error string `json:"error,omitempty"`
}
