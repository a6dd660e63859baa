package app

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// An event is published when a share begins to be rejected and when none is rejected any more; throttling that pauses for a moment has
// not ended.
func TestAdmissionChangesArePublishedOnce(t *testing.T) {
	statuses := map[string]events.ServiceStatus{}
	var published []string
	w := newAdmissionWatcher(func() map[string]events.ServiceStatus { return statuses }, func(e events.Event) {
		c := e.(events.AdmissionChanged)
		published = append(published, fmt.Sprintf("%s %s %v %s", c.Service, c.Reason, c.RejectedRatio, c.Mode))
	})
	now := time.Now()
	for i, step := range []struct {
		rejected, admitted float64
		wait               time.Duration // since the previous sample
		want               string
	}{
		{0, 1, 0, ""},
		{0.25, 1, time.Second, "svc throttled 0.25 shadow"},
		{0.5, 1, time.Second, ""},
		{0, 1, throttlingGap - time.Second, ""},
		{0.75, 1, time.Second, ""},
		{0, 1, throttlingGap, "svc throttled 0 shadow"},
		{0, 1, time.Second, ""},
		{0, 0.25, time.Second, "svc recovering 0.75 shadow"},
		{0, 0.5, time.Second, ""},
		{0, 1, time.Second, "svc recovering 0 shadow"},
		{0.5, 0.5, time.Second, "svc throttled 0.5 shadow, svc recovering 0.5 shadow"},
	} {
		now = now.Add(step.wait)
		statuses["svc"] = events.ServiceStatus{Mode: "shadow", BreakerStatus: events.BreakerStatus{RejectionRatio: step.rejected, AdmittedRatio: step.admitted}}
		published = nil
		w.sample(now)
		if got := strings.Join(published, ", "); got != step.want {
			t.Errorf("step %d: %q is published, want %q", i, got, step.want)
		}
	}
	delete(statuses, "svc")
	published = nil
	if w.sample(now); len(w.active) > 0 || len(published) > 0 {
		t.Errorf("a removed service is kept: %v, %v", w.active, published)
	}
}
