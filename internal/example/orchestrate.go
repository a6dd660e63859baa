package main

import (
	"context"
	"encoding/json"
	"fmt"
)

// status is what became of an event.
type status struct {
	Event string `json:"event"`
	// Outcome is complete, or degraded if any step was.
	Outcome  string          `json:"outcome"`
	Degraded []degradation   `json:"degraded"`
	Context  json.RawMessage `json:"context"`
	Rules    json.RawMessage `json:"rules"`
	Notified string          `json:"notified"` // sent, queued or failed
}

// degradation is a step for which a fallback stood in.
type degradation struct {
	Service string `json:"service"`
	// By is the fallback's strategy, and Reason why it was needed; both "" where there was none, and the
	// client got an error.
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Breaker is the state of the service's circuit breaker.
	Breaker string `json:"breaker"`
}

// orchestrate takes an event through all three steps. No step's failure ends it: what a step
// could not find out is missing in the next one's request. The error is that cbproxy itself can't
// be reached, or that ctx is done.
func orchestrate(ctx context.Context, s services, event string) (*status, error) {
	done := &status{Event: event, Outcome: "complete", Degraded: []degradation{}}
	known, err := s.call(ctx, done, "/rag/query", map[string]any{"query": event})
	if err != nil {
		return nil, fmt.Errorf("ask for the context: %w", err)
	}
	done.Context = known.body
	rules, err := s.call(ctx, done, "/rules/generate", map[string]any{"event": event, "context": known.body})
	if err != nil {
		return nil, fmt.Errorf("ask for rules: %w", err)
	}
	done.Rules = rules.body
	sent, err := s.call(ctx, done, "/notify/send", map[string]any{"event": event, "context": known.body, "rules": rules.body})
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	switch {
	case sent.status >= 300:
		done.Notified = "failed"
	case sent.by == "queue":
		done.Notified = "queued" // cbproxy has it on its disk and delivers it later
	default:
		done.Notified = "sent"
	}
	if len(done.Degraded) > 0 {
		done.Outcome = "degraded"
	}
	return done, nil
}
