package main

import (
	"context"
	"encoding/json"
	"fmt"
)

// status is the result of processing one event.
type status struct {
	Event string `json:"event"`
	// Outcome is complete, or degraded if any step was.
	Outcome  string          `json:"outcome"`
	Degraded []degradation   `json:"degraded"`
	Context  json.RawMessage `json:"context"`
	Rules    json.RawMessage `json:"rules"`
	Notified string          `json:"notified"` // sent, queued or failed
}

// degradation describes a step that the service itself did not answer, or not completely.
type degradation struct {
	Service string `json:"service"`
	// By is the fallback strategy that answered, and Reason why a fallback was needed. Both are ""
	// if no fallback answered and the response was an error.
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Breaker is the state of the service's circuit breaker.
	Breaker string `json:"breaker"`
	// Error says why the response is incomplete. It is "" if it is complete.
	Error string `json:"error,omitempty"`
}

// orchestrate runs the three steps for an event. The failure of a step does not end it: the next
// step's request then contains the fallback's response, or null. It returns an error only if
// cbproxy itself can't be reached or ctx is done.
func orchestrate(ctx context.Context, s services, event string) (*status, error) {
	result := &status{Event: event, Outcome: "complete", Degraded: []degradation{}}
	found, err := s.call(ctx, result, "/rag/query", map[string]any{"query": event})
	if err != nil {
		return nil, fmt.Errorf("query the RAG service: %w", err)
	}
	result.Context = found.body
	rules, err := s.call(ctx, result, "/rules/generate", map[string]any{"event": event, "context": found.body})
	if err != nil {
		return nil, fmt.Errorf("generate rules: %w", err)
	}
	result.Rules = rules.body
	sent, err := s.call(ctx, result, "/notify/send", map[string]any{"event": event, "context": found.body, "rules": rules.body})
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	switch {
	case sent.status >= 300:
		result.Notified = "failed"
	case sent.by == "queue":
		result.Notified = "queued" // cbproxy stored it and delivers it later
	default:
		result.Notified = "sent"
	}
	if len(result.Degraded) > 0 {
		result.Outcome = "degraded"
	}
	return result, nil
}
