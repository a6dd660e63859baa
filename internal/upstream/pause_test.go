package upstream

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// TestConcurrentCheckCountsPauseOnce checks that a pause is counted exactly once by a call that runs during the check that
// detects it.
func TestConcurrentCheckCountsPauseOnce(t *testing.T) {
	const rounds, pause = 20_000, 5 * time.Second
	const now = checkInterval + pause
	detectors := make([]*pauseDetector, rounds)
	for i := range detectors {
		detectors[i] = newPauseDetector()
	}
	var started, checked atomic.Int64
	go func() {
		for i := range detectors {
			for started.Load() <= int64(i) {
				runtime.Gosched()
			}
			detectors[i].check(now)
			checked.Add(1)
		}
	}()
	for i := range detectors {
		started.Add(1)
		for done := false; !done; {
			done = checked.Load() > int64(i)
			if got := detectors[i].total(now); got != pause {
				t.Fatalf("round %d: a total of %v, want %v", i, got, pause)
			}
		}
	}
}
