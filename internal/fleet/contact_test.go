package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// One lost response does not disconnect an instance. Repeated failures of one kind of request do,
// until one succeeds or the kind is no longer sent.
func TestRepeatedFailuresDisconnectInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New("svc", breaker.Policy{FailMax: 1}, func(events.Event) {})
		defer b.Close()
		p := newProtocol("svc", "me", b)
		record := func(kind requestKind, failed bool) {
			p.lastContact.set(time.Now())
			p.recordResult(kind, failed, time.Now())
		}
		want := func(lost bool, when string) {
			t.Helper()
			p.lastContact.set(time.Now())
			if got := p.disconnected(time.Now()); got != lost {
				t.Errorf("%s: disconnected is %v", when, got)
			}
		}
		record(decide, true)
		record(merge, false)
		want(false, "after one failure")
		time.Sleep(failureTimeout + time.Second)
		want(false, "long after one failure")
		time.Sleep(failureLifetime)
		for range 4 {
			record(acquire, true)
			record(merge, false)
			time.Sleep(time.Second)
		}
		want(true, "after consecutive failures")
		record(acquire, false)
		want(false, "after a success")
		for range 4 {
			record(decide, true)
			time.Sleep(time.Second)
		}
		want(true, "after consecutive failures")
		time.Sleep(failureLifetime)
		want(false, "when it was not sent again")
		if time.Sleep(2 * contactTimeout); !p.disconnected(time.Now()) {
			t.Error("not disconnected although Redis does not respond")
		}
	})
}
