package adaptive

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A restored learner goes on as the one that was recorded would have, except for the evidence.
func TestRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now := NewLearner(defaults), time.Duration(0)
		step := func(l *Learner, at *time.Duration, calls []int) {
			for _, failEvery := range calls {
				for i := range 600 {
					*at += time.Second
					l.Observe(*at, failEvery > 0 && i%failEvery == failEvery-1, false)
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
		record, err := l.Record(now)
		if err != nil {
			t.Fatal(err)
		}
		restored, at := NewLearner(defaults), time.Duration(rapid.IntRange(0, 1e12).Draw(t, "start"))
		if err := restored.Restore(at, record); err != nil {
			t.Fatal(err)
		}
		more := failures.Draw(t, "after")
		step(l, &now, more)
		step(restored, &at, more)
		if got, want := restored.Status(at), l.Status(now); got.FailureRatio != want.FailureRatio || got.Calls != want.Calls || got.Warm != want.Warm ||
			got.Demoted != want.Demoted || got.Openings != want.Openings || got.Explanation != want.Explanation {
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
	record, err := l.Record(now)
	if err != nil {
		t.Fatal(err)
	}
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

func TestDamagedRecordsAreRejected(t *testing.T) {
	l, now := learned(defaults, 100)
	valid, err := l.Record(now)
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range []string{
		"", "null", "[]", "{}", string(valid[:len(valid)/2]),
		strings.Replace(string(valid), `"version":1`, `"version":0`, 1),
		strings.Replace(string(valid), `"version":1`, `"version":2`, 1),
		strings.Replace(string(valid), `"failures":`, `"failures":-`, 1),
		strings.Replace(string(valid), `"failures":`, `"failures":1000000`, 1),
		strings.Replace(string(valid), `"elapsed":`, `"elapsed":-1`, 1),
		strings.Replace(string(valid), `"recent":0`, `"recent":2000`, 1),
		strings.Replace(string(valid), `"before":0`, `"before":-0`, 1),
		strings.Replace(string(valid), `"total":`, `"total":99999999999999`, 1),
	} {
		fresh := NewLearner(defaults)
		if record == string(valid) {
			t.Error("the test changes nothing")
		} else if err := fresh.Restore(0, []byte(record)); err == nil {
			t.Errorf("accepted: %s", record)
		} else if again, _ := fresh.Record(0); !bytes.Equal(again, must(NewLearner(defaults).Record(0))) {
			t.Errorf("changed by %s: %s", record, again)
		}
	}
}

func must(record []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return record
}

func FuzzRestore(f *testing.F) {
	l, now := learned(defaults, 100)
	f.Add(must(l.Record(now)))
	f.Add([]byte(`{"version":1,"before":1,"calls":1e15,"failures":1e15}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		l := NewLearner(defaults)
		_ = l.Restore(0, record)
		for i := range 100 {
			l.Observe(time.Duration(i)*time.Minute, i%2 == 0, false)
		}
		if r := l.FailureRatio(); !(r >= defaults.Floor && r <= maxRatio) {
			t.Errorf("ratio %v", r)
		}
	})
}
