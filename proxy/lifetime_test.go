package proxy

import (
	"context"
	"testing"
	"time"

	"cbproxy/internal/service"
	"cbproxy/routes"
)

// TestResetTimerDoesNotExpire checks that expire does nothing if the timer was reset after it had fired, as a read of a response
// may do at that moment, and that it does nothing after StopTimer.
func TestResetTimerDoesNotExpire(t *testing.T) {
	x := &exchange{route: &service.Route{Config: &routes.Route{Timeout: time.Hour}}, began: time.Now()}
	x.Start(t.Context(), time.Hour, func() {}, x.expire)
	defer x.EndCallbacks()
	x.ResetTimer(time.Hour)
	x.expire()
	if err := context.Cause(x); err != nil {
		t.Fatalf("after a reset: %v", err)
	}
	x.StopTimer()
	x.expire()
	if err := context.Cause(x); err != nil {
		t.Fatalf("after StopTimer: %v", err)
	}
	x.ResetTimer(-time.Second)
	x.expire()
	if err := context.Cause(x); err != errTimeout {
		t.Fatalf("after the deadline: %v, want %v", err, errTimeout)
	}
}
