package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestTakerTellsWhatIsRepeatedOrOutOfOrder(t *testing.T) {
	for name, test := range map[string]struct {
		numbers []int // of sender 1, after one of sender 2
		want    takings
	}{
		"in order":  {[]int{0, 1, 2}, takings{Taken: 4}},
		"again":     {[]int{0, 0, 1}, takings{Taken: 4, Repeated: 1}},
		"one lacks": {[]int{0, 2, 3}, takings{Taken: 4, Misplaced: 1}},
		"swapped":   {[]int{1, 0}, takings{Taken: 3, Repeated: 1, Misplaced: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			k := newTaking()
			k.ServeHTTP(httptest.NewRecorder(), delivery(t, 2, 0))
			for _, n := range test.numbers {
				w := httptest.NewRecorder()
				k.ServeHTTP(w, delivery(t, 1, n))
				if w.Code != http.StatusNoContent {
					t.Errorf("got %d", w.Code)
				}
			}
			if got := k.soFar(); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func delivery(t *testing.T, sender, number int) *http.Request {
	return httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(message(sender, number).Body))
}

func TestMessagesHaveAboutTheSizeTheySay(t *testing.T) {
	for _, number := range []int{0, 999_999} {
		m := message(senders-1, number)
		if n := len(m.Body); n < questionBytes-16 || n > questionBytes+16 || !json.Valid(m.Body) {
			t.Errorf("got %d bytes: %s", n, m.Body)
		}
	}
}
