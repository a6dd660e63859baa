package service

import (
	"testing"
	"time"
)

// TestLastSuccessAndRejectionAreTheLatest checks that a request that began earlier and ends later does not set the times back.
func TestLastSuccessAndRejectionAreTheLatest(t *testing.T) {
	var s Service
	first := time.Now()
	second := first.Add(10 * time.Second)
	s.NoteSuccess(second)
	s.NoteSuccess(first)
	if got := time.Unix(0, s.lastSuccess.Load()); !got.Equal(second) {
		t.Errorf("the last success is %v before the latest one", second.Sub(got))
	}
	s.NoteRejected(second)
	s.NoteRejected(first)
	if got := time.Unix(0, s.reservation.lastRejection.Load()); !got.Equal(second) {
		t.Errorf("the last rejection is %v before the latest one", second.Sub(got))
	}
}
