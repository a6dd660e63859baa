package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// One answer that got lost makes nobody go by itself; something that goes on failing does, until
// it works or is not asked any more.
func TestOnlyWhatGoesOnFailingMakesAnInstanceGoByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New("svc", breaker.Policy{FailMax: 1}, func(events.Event) {})
		defer b.Close()
		p := newProtocol("svc", "me", b)
		ask := func(kind requestKind, failed bool) {
			p.lastContact.set(time.Now())
			p.recordResult(kind, failed, time.Now())
		}
		want := func(lost bool, when string) {
			t.Helper()
			p.lastContact.set(time.Now())
			if got := p.disconnected(time.Now()); got != lost {
				t.Errorf("%s: by itself is %v", when, got)
			}
		}
		ask(decide, true)
		ask(merge, false)
		want(false, "after one failure")
		time.Sleep(failureTimeout + time.Second)
		want(false, "long after one failure")
		time.Sleep(failureLifetime)
		for range 4 {
			ask(acquire, true)
			ask(merge, false)
			time.Sleep(time.Second)
		}
		want(true, "after failures one after the other")
		ask(acquire, false)
		want(false, "once it works")
		for range 4 {
			ask(decide, true)
			time.Sleep(time.Second)
		}
		want(true, "after failures one after the other")
		time.Sleep(failureLifetime)
		want(false, "when it was not asked again")
		if time.Sleep(2 * contactTimeout); !p.disconnected(time.Now()) {
			t.Error("it waits for a Redis that is silent")
		}
	})
}

func TestClockPrefersGoodReadings(t *testing.T) {
	begin := time.Now()
	var c clock
	read := func(after, roundTrip, ahead time.Duration) {
		sent := begin.Add(after)
		c.addReading(sent, sent.Add(roundTrip), sent.Add(roundTrip/2+ahead))
	}
	want := func(ahead time.Duration, when string) {
		t.Helper()
		if got := c.toRemote(begin).Sub(begin); (got - ahead).Abs() > time.Millisecond {
			t.Errorf("%s: %v ahead, want %v", when, got, ahead)
		}
		if got := c.toLocal(c.toRemote(begin)); !got.Equal(begin) {
			t.Errorf("%s: there and back is %v off", when, got.Sub(begin))
		}
	}
	read(0, 4*time.Millisecond, time.Hour)
	want(time.Hour, "the first reading")
	read(time.Second, 800*time.Millisecond, time.Hour+300*time.Millisecond)
	want(time.Hour, "a bad reading")
	read(2*time.Second, 2*time.Millisecond, time.Hour+2*time.Millisecond)
	want(time.Hour+2*time.Millisecond, "a better reading")
	read(3*time.Second, 20*time.Millisecond, 2*time.Hour)
	want(2*time.Hour, "a reading that contradicts")
	read(3*time.Second+2*readingLifetime, time.Second, 2*time.Hour+100*time.Millisecond)
	want(2*time.Hour+100*time.Millisecond, "a bad reading when there was none for long")
}
