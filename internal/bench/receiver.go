package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// notification is the body of a queued request.
type notification struct {
	Sender int    `json:"sender"`
	Number int    `json:"number"` // the sender's sequence number, from 0
	Text   string `json:"text"`
}

// deliveryCounts counts the deliveries that an upstream has received.
type deliveryCounts struct {
	Received   int `json:"received"`
	Repeated   int `json:"repeated"`     // delivered before
	OutOfOrder int `json:"out_of_order"` // an earlier one of the same sender was missing
}

// deliveryChecker receives notifications and checks their order. It is safe for concurrent use.
type deliveryChecker struct {
	mu   sync.Mutex // guards the fields below
	sum  deliveryCounts
	next map[int]int // the expected next number, by sender
}

func newDeliveryChecker() *deliveryChecker { return &deliveryChecker{next: map[int]int{}} }

// ServeHTTP counts a notification.
func (t *deliveryChecker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var n notification
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Received++
	switch expected := t.next[n.Sender]; {
	case n.Number < expected:
		t.sum.Repeated++
	case n.Number > expected:
		t.sum.OutOfOrder++
	}
	t.next[n.Sender] = max(t.next[n.Sender], n.Number+1)
	w.WriteHeader(http.StatusNoContent)
}

// counts returns the current counts.
func (t *deliveryChecker) counts() deliveryCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum
}

// receiver serves an upstream that receives notifications at the address args[0], and its counts at args[1].
func receiver(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: bench receiver ADDRESS COUNTER-ADDRESS")
	}
	t := newDeliveryChecker()
	data := &http.Server{Handler: t}
	counter := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(t.counts()) // an error means that the client has disconnected
	})}
	failed := make(chan error, 2)
	go func() { failed <- serve(ctx, data, args[0]) }()
	go func() { failed <- serve(ctx, counter, args[1]) }()
	return <-failed
}

// fetchCounts returns the counts of a receiver.
func fetchCounts(ctx context.Context, counter string) (t deliveryCounts, err error) {
	a, err := get(ctx, "http://"+counter)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(a.Body, &t); err != nil {
		return t, fmt.Errorf("read the counts of deliveries: %w", err)
	}
	return t, nil
}
