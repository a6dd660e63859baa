package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestDeliveryCheckerCountsRepeatedAndMissing(t *testing.T) {
	for name, test := range map[string]struct {
		numbers []int // from sender 1, after one from sender 2
		want    deliveryCounts
	}{
		"in order": {[]int{0, 1, 2}, deliveryCounts{Received: 4}},
		"repeated": {[]int{0, 0, 1}, deliveryCounts{Received: 4, Repeated: 1}},
		"missing":  {[]int{0, 2, 3}, deliveryCounts{Received: 4, OutOfOrder: 1}},
		"swapped":  {[]int{1, 0}, deliveryCounts{Received: 3, Repeated: 1, OutOfOrder: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			k := newDeliveryChecker()
			k.ServeHTTP(httptest.NewRecorder(), delivery(t, 2, 0))
			for _, n := range test.numbers {
				w := httptest.NewRecorder()
				k.ServeHTTP(w, delivery(t, 1, n))
				if w.Code != http.StatusNoContent {
					t.Errorf("got %d", w.Code)
				}
			}
			if got := k.counts(); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// delivery returns a request with a notification.
func delivery(t *testing.T, sender, number int) *http.Request {
	return httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(message(sender, number).Body))
}

func TestMessageBodySize(t *testing.T) {
	for _, number := range []int{0, 999_999} {
		m := message(senders-1, number)
		if n := len(m.Body); n < bodyBytes-16 || n > bodyBytes+16 || !json.Valid(m.Body) {
			t.Errorf("got %d bytes: %s", n, m.Body)
		}
	}
}
