package app

import (
	"context"
	"time"

	"cbproxy/internal/events"
)

const (
	admissionInterval = time.Second
	// throttlingGap is the time without throttling after which it has ended. The share of throttled requests may be zero for a
	// moment, which must not cause an event each time.
	throttlingGap = 10 * time.Second
)

// admissionWatcher publishes an events.AdmissionChanged when a closed breaker begins or stops to reject a share of the requests. It
// samples the breakers, so that requests do no extra work.
type admissionWatcher struct {
	statuses func() map[string]events.ServiceStatus
	publish  func(events.Event)
	active   map[admission]time.Time // the last sample in which a share was rejected
}

// admission identifies why a service rejects a share of the requests.
type admission struct {
	service string
	reason  events.Reason
}

func newAdmissionWatcher(statuses func() map[string]events.ServiceStatus, publish func(events.Event)) *admissionWatcher {
	return &admissionWatcher{statuses: statuses, publish: publish, active: map[admission]time.Time{}}
}

// run samples the breakers until ctx is done.
func (w *admissionWatcher) run(ctx context.Context) { every(ctx, admissionInterval, w.sample) }

// sample compares the breakers with the previous sample.
func (w *admissionWatcher) sample(now time.Time) {
	statuses := w.statuses()
	for a := range w.active {
		if _, ok := statuses[a.service]; !ok {
			delete(w.active, a)
		}
	}
	for name, s := range statuses {
		w.compare(admission{name, events.ReasonThrottled}, s, s.RejectionRatio, now, throttlingGap)
		w.compare(admission{name, events.ReasonRecovering}, s, 1-s.AdmittedRatio, now, 0)
	}
}

// compare publishes an event if share, the share of the requests that is rejected now, begins to be above 0 or has been 0 for gap.
func (w *admissionWatcher) compare(a admission, s events.ServiceStatus, share float64, now time.Time, gap time.Duration) {
	last, active := w.active[a]
	switch {
	case share > 0:
		w.active[a] = now
		if active {
			return
		}
	case !active || now.Sub(last) < gap:
		return
	default:
		delete(w.active, a)
	}
	w.publish(events.AdmissionChanged{Time: now, Service: a.service, Reason: a.reason, RejectedRatio: share, Mode: s.Mode})
}
