package store

import (
	"context"
	"slices"
	"sync"

	"cbproxy/internal/events"
)

// Memory is a Store in memory, which is lost when the process ends.
type Memory struct {
	mu        sync.Mutex // guards what follows
	states    map[string]State
	histories map[string][]events.HistoryEntry // oldest first
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{states: map[string]State{}, histories: map[string][]events.HistoryEntry{}}
}

// Load implements Store.
func (m *Memory) Load(_ context.Context, service string) (State, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, found := m.states[service]
	return s, found, nil
}

// Save implements Store.
func (m *Memory) Save(_ context.Context, s State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.Epoch >= m.states[s.Service].Epoch {
		m.states[s.Service] = s
	}
	return nil
}

// Append implements Store.
func (m *Memory) Append(_ context.Context, c events.HistoryEntry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	changes := append(m.histories[c.Service], c)
	if over := len(changes) - HistoryLimit; over > 0 {
		changes = slices.Delete(changes, 0, over)
	}
	m.histories[c.Service] = changes
	return nil
}

// History implements Store.
func (m *Memory) History(_ context.Context, service string, limit int) ([]events.HistoryEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changes := m.histories[service]
	changes = slices.Clone(changes[max(0, len(changes)-limit):])
	slices.Reverse(changes)
	return changes, nil
}

// Close implements Store.
func (m *Memory) Close() error { return nil }
