package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	checkInterval = 200 * time.Millisecond
	minPause      = time.Second // a busy machine may run a timer some tenths of a second late
)

// pauseDetector detects that the process was stopped: by SIGSTOP, together with its virtual machine, or for lack of CPU time. Its
// periodic check then runs late. It is safe for concurrent use.
type pauseDetector struct {
	start     time.Time
	lastCheck atomic.Int64 // nanoseconds from start to the last check
	paused    atomic.Int64 // total nanoseconds of the pauses before the last check
}

// detector returns the detector of the process, which the first call starts.
var detector = sync.OnceValue(func() *pauseDetector {
	p := &pauseDetector{start: time.Now()}
	go p.run()
	return p
})

// run checks for pauses forever.
func (p *pauseDetector) run() {
	for {
		time.Sleep(checkInterval)
		now := int64(time.Since(p.start))
		p.paused.Add(p.pendingPause(now))
		p.lastCheck.Store(now)
	}
}

// pendingPause returns the pause since the last check, as of now in nanoseconds from start; 0 if there was none.
func (p *pauseDetector) pendingPause(now int64) int64 {
	if late := now - p.lastCheck.Load() - int64(checkInterval); late >= int64(minPause) {
		return late
	}
	return 0
}

// Paused returns the total duration of all pauses of the process that lasted at least a second. A timeout counts as a failure of
// the upstream only if the value has not grown since the timeout was set. It is safe for concurrent use.
func Paused() time.Duration {
	p := detector()
	counted := p.paused.Load() // loaded first, so that a pause that run counts meanwhile is counted twice rather than not at all
	return time.Duration(counted + p.pendingPause(int64(time.Since(p.start))))
}
