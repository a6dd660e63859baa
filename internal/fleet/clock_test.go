package fleet

import (
	"testing"
	"time"
)

func TestClockPrefersAccurateReadings(t *testing.T) {
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
			t.Errorf("%s: converting there and back is %v off", when, got.Sub(begin))
		}
	}
	read(0, 4*time.Millisecond, time.Hour)
	want(time.Hour, "the first reading")
	read(time.Second, 800*time.Millisecond, time.Hour+300*time.Millisecond)
	want(time.Hour, "an inaccurate reading")
	read(2*time.Second, 2*time.Millisecond, time.Hour+2*time.Millisecond)
	want(time.Hour+2*time.Millisecond, "a more accurate reading")
	read(3*time.Second, 20*time.Millisecond, 2*time.Hour)
	want(2*time.Hour, "a contradicting reading")
	read(3*time.Second+2*readingLifetime, time.Second, 2*time.Hour+100*time.Millisecond)
	want(2*time.Hour+100*time.Millisecond, "an inaccurate reading after none for a long time")
}
