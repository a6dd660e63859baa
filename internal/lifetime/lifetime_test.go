package lifetime

import (
	"testing"
	"time"
)

// A timer that is to expire late can be made to call expire earlier, before the deadline has passed.
func TestCheckAfterKeepsTheDeadline(t *testing.T) {
	var l Lifetime
	expired := make(chan bool)
	l.Start(t.Context(), time.Hour, func() {}, func() { expired <- l.Expired() })
	defer l.EndCallbacks()
	l.CheckAfter(time.Millisecond)
	if <-expired {
		t.Error("expired before the deadline")
	}
	l.ResetTimer(time.Millisecond)
	l.CheckAfter(time.Hour)
	if !<-expired {
		t.Error("not expired after the deadline")
	}
}

func TestNoCallbackBeginsAfterEndCallbacks(t *testing.T) {
	var l Lifetime
	l.Start(t.Context(), time.Hour, func() {}, func() {})
	if !l.BeginCallback() {
		t.Fatal("no callback can begin")
	}
	ended := make(chan bool)
	go func() { l.EndCallbacks(); close(ended) }()
	select {
	case <-ended:
		t.Error("EndCallbacks returned during a callback")
	case <-time.After(10 * time.Millisecond):
	}
	l.EndCallback()
	<-ended
	if l.BeginCallback() {
		t.Error("a callback began")
	}
}
