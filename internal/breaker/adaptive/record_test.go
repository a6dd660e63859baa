package adaptive

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A restored learner goes on as the one that was recorded would have, except for the evidence.
func TestRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now := NewLearner(defaults), time.Duration(0)
		l.SetSlowCall(0, thirtySeconds)
		step := func(l *Learner, at *time.Duration, calls []int) {
			for n, failEvery := range calls {
				for i := range 600 {
					*at += 4 * time.Second
					if failEvery > 0 && i%failEvery == failEvery-1 {
						l.Observe(*at, true, false)
					} else {
						succeed(l, *at, time.Duration(n+i)*time.Millisecond)
					}
				}
			}
		}
		failures := rapid.SliceOfN(rapid.SampledFrom([]int{0, 20, 50, 200}), 0, 60)
		step(l, &now, failures.Draw(t, "before"))
		for range rapid.IntRange(0, 5).Draw(t, "refuted") {
			l.OpenedByEvidence(true)
			l.Probed(false)
		}
		l.Recovered(now)
		now += recoveryTime
		l.Configure(defaults) // computes the ratio now, as Restore does
		l.SetSlowCall(now, thirtySeconds)
		record := recordOf(l, now)
		restored, at := NewLearner(defaults), time.Duration(rapid.IntRange(0, 1e12).Draw(t, "start"))
		restored.SetSlowCall(at, thirtySeconds)
		if err := restored.Restore(at, record); err != nil {
			t.Fatal(err)
		}
		more := failures.Draw(t, "after")
		step(l, &now, more)
		step(restored, &at, more)
		if got, want := restored.Status(at), l.Status(now); got.FailureRatio != want.FailureRatio || got.Calls != want.Calls || got.Warm != want.Warm ||
			got.Latency != want.Latency || got.SlowCallDuration != want.SlowCallDuration || got.Demoted != want.Demoted || got.Openings != want.Openings || got.Explanation != want.Explanation {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

func TestOtherOptionsEndADemotionAtARestart(t *testing.T) {
	l, now := learned(defaults, 0)
	for range 4 {
		l.OpenedByEvidence(true)
		l.Probed(false)
	}
	record := recordOf(l, now)
	for _, minRatio := range []float64{0.2, 0.3} {
		o := defaults
		o.MinRatio = minRatio
		restored := NewLearner(o)
		if err := restored.Restore(0, record); err != nil {
			t.Fatal(err)
		}
		if s := restored.Status(0); s.Demoted != (o == defaults) || s.Openings.Refuted != 4 || s.Calls != 24*3600 {
			t.Errorf("min_ratio %v: %+v", minRatio, s)
		}
	}
}

// A record of the first version has no durations, and everything else.
func TestRecordWithoutDurations(t *testing.T) {
	const record = `{"version":1,"options":{"Mode":2,"FalseAlarm":1e-8,"MinRatio":0.2,"MinCalls":0,"Floor":0.01,"Cap":0.1,"WarmupCalls":200,` +
		`"WarmupTime":1800000000000},"calls":1000,"failures":10,"new_calls":500,"new_failures":5,"elapsed":1000,"before":0.02,` +
		`"learned":3600000000000,"total":1000,"openings":{"Earlier":1,"OnlyAdaptive":2,"Refuted":3},"recent":7,"demoted":true}`
	l := NewLearner(defaults)
	l.SetSlowCall(0, thirtySeconds)
	succeed(l, time.Second, time.Millisecond)
	if err := l.Restore(time.Minute, []byte(record)); err != nil {
		t.Fatal(err)
	}
	if s := l.Status(time.Minute); s.Calls != 1500 || !s.Demoted || !s.Warm || s.Openings != (Openings{1, 2, 3}) || s.Latency != (Latency{}) || s.SlowCallDuration != 5*time.Second {
		t.Errorf("%+v", s)
	}
	now := 2 * time.Minute
	for range 200 { // as many calls and as much time as after a reset
		now += 10 * time.Second
		succeed(l, now, 200*time.Millisecond)
	}
	if got := l.SlowCallDuration(); got < 588*time.Millisecond || got > 612*time.Millisecond {
		t.Errorf("a call is slow from %v on", got)
	}
}

func TestDamagedRecordsAreRejected(t *testing.T) {
	l, now := learned(defaults, 100)
	for range 3 {
		succeed(l, now, 10*time.Millisecond)
		now += 2 * time.Hour
	}
	valid := recordOf(l, now)
	for _, record := range []string{
		"", "null", "[]", "{}", string(valid[:len(valid)/2]),
		strings.Replace(string(valid), `"version":2`, `"version":0`, 1),
		strings.Replace(string(valid), `"version":2`, `"version":3`, 1),
		strings.Replace(string(valid), `"failures":`, `"failures":-`, 1),
		strings.Replace(string(valid), `"failures":`, `"failures":1000000`, 1),
		strings.Replace(string(valid), `"elapsed":`, `"elapsed":-1`, 1),
		strings.Replace(string(valid), `"recent":0`, `"recent":2000`, 1),
		strings.Replace(string(valid), `"before":0`, `"before":-0`, 1),
		strings.Replace(string(valid), `"total":`, `"total":99999999999999`, 1),
		strings.Replace(string(valid), `"past":[`, `"past":[{"first":1001,"counts":[]},`, 1),
		strings.Replace(string(valid), `"past":[`, `"past":[{"first":-1001,"counts":[1]},`, 1),
		strings.Replace(string(valid), `"past":[`, `"past":[`+strings.Repeat(`{"first":1,"counts":[1]},`, learntHours+1), 1),
		strings.Replace(string(valid), `"counts":[`, `"counts":[`+strings.Repeat("1,", maxBins), 1),
		strings.Replace(string(valid), `"counts":[`, `"counts":[-1,`, 1),
	} {
		fresh := NewLearner(defaults)
		if record == string(valid) {
			t.Error("the test changes nothing")
		} else if err := fresh.Restore(0, []byte(record)); err == nil {
			t.Errorf("accepted: %s", record)
		} else if again := recordOf(fresh, 0); !bytes.Equal(again, recordOf(NewLearner(defaults), 0)) {
			t.Errorf("changed by %s: %s", record, again)
		}
	}
}

// recordOf returns what l has learnt as JSON.
func recordOf(l *Learner, now time.Duration) []byte {
	record, err := json.Marshal(l.Record(now))
	if err != nil {
		panic(err)
	}
	return record
}

func FuzzRestore(f *testing.F) {
	l, now := learned(defaults, 100)
	f.Add(recordOf(l, now))
	f.Add([]byte(`{"version":1,"before":1,"calls":1e15,"failures":1e15}`))
	f.Add([]byte(`{"version":2,"before":1,"durations":{"past":[{"first":-1000,"counts":[4294967295]},{"first":999,"counts":[1]}],"calls":1e15}}`))
	l, now = learnedDurations(defaults, thirtySeconds, 30, 10*time.Millisecond)
	f.Add(recordOf(l, now))
	f.Fuzz(func(t *testing.T, record []byte) {
		l := NewLearner(defaults)
		l.SetSlowCall(0, thirtySeconds)
		_ = l.Restore(0, record)
		for i := range 100 {
			now := time.Duration(i) * time.Minute
			l.Observe(now, i%2 == 0, false)
			if i%2 != 0 {
				l.ObserveDuration(now, time.Second)
			}
			if d, s := l.SlowCallDuration(), l.Status(now); !(d >= minSlowCall && d <= thirtySeconds.Max) || !(s.Latency.P99 >= s.Latency.P50 && s.Latency.P50 >= 0) {
				t.Fatalf("a call is slow from %v on: %+v", d, s)
			}
		}
		if r := l.FailureRatio(); !(r >= defaults.Floor && r <= maxRatio) {
			t.Errorf("ratio %v", r)
		}
	})
}
