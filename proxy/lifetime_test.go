package proxy

import (
	"context"
	"testing"
	"time"

	"cbproxy/internal/service"
	"cbproxy/routes"
)

// TestResetTimerDoesNotExpire checks that expire does nothing if the timer was reset after it had fired, as a read of a response
// may do at that moment, and that it does nothing after stopTimer.
func TestResetTimerDoesNotExpire(t *testing.T) {
	x := &exchange{route: &service.Route{Config: &routes.Route{Timeout: time.Hour}}, began: time.Now()}
	x.startContext(t.Context(), time.Hour, func() {}, x.expire)
	defer x.endCallbacks()
	x.resetTimer(time.Hour)
	x.expire()
	if err := context.Cause(x); err != nil {
		t.Fatalf("after a reset: %v", err)
	}
	x.stopTimer()
	x.expire()
	if err := context.Cause(x); err != nil {
		t.Fatalf("after stopTimer: %v", err)
	}
	x.resetTimer(-time.Second)
	x.expire()
	if err := context.Cause(x); err != errTimeout {
		t.Fatalf("after the deadline: %v, want %v", err, errTimeout)
	}
}
