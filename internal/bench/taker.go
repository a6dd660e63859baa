package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// notification is a queued request's body.
type notification struct {
	Sender int    `json:"sender"`
	Number int    `json:"number"` // counts the sender's
	Text   string `json:"text"`
}

// takings counts the deliveries that an upstream has received.
type takings struct {
	Taken     int `json:"taken"`
	Repeated  int `json:"repeated"`  // were delivered before
	Misplaced int `json:"misplaced"` // came before or without another of the same sender
}

// taking receives notifications and checks their order.
type taking struct {
	mu   sync.Mutex // guards what follows
	sum  takings
	next map[int]int // the number that a sender's next one must have
}

func newTaking() *taking { return &taking{next: map[int]int{}} }

func (t *taking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var n notification
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Taken++
	switch expected := t.next[n.Sender]; {
	case n.Number < expected:
		t.sum.Repeated++
	case n.Number > expected:
		t.sum.Misplaced++
	}
	t.next[n.Sender] = max(t.next[n.Sender], n.Number+1)
	w.WriteHeader(http.StatusNoContent)
}

// soFar returns the current counts.
func (t *taking) soFar() takings {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum
}

// taker is an upstream that receives notifications at the address args[0] and serves the counts at args[1].
func taker(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: bench taker ADDRESS COUNTER-ADDRESS")
	}
	t := newTaking()
	data := &http.Server{Handler: t}
	counter := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(t.soFar()) // who has gone misses nothing
	})}
	failed := make(chan error, 2)
	go func() { failed <- serve(ctx, data, args[0]) }()
	go func() { failed <- serve(ctx, counter, args[1]) }()
	return <-failed
}

// taken returns the counts of a taker.
func taken(ctx context.Context, counter string) (t takings, err error) {
	a, err := get(ctx, "http://"+counter)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(a.Body, &t); err != nil {
		return t, fmt.Errorf("read what was taken: %w", err)
	}
	return t, nil
}
