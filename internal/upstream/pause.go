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
	start time.Time
	// last is the result of the last check. Both of its values are replaced at once: otherwise a call of total during a check
	// could count the pause that the check detects twice or not at all.
	last atomic.Pointer[pauseCheck]
}

// pauseCheck is the result of a check. It is immutable.
type pauseCheck struct {
	at     time.Duration // since the detector's start
	paused time.Duration // total of the pauses before at
}

// detector returns the detector of the process, which the first call starts.
var detector = sync.OnceValue(func() *pauseDetector {
	p := newPauseDetector()
	go p.run()
	return p
})

func newPauseDetector() *pauseDetector {
	p := &pauseDetector{start: time.Now()}
	p.last.Store(&pauseCheck{})
	return p
}

// run checks for pauses forever.
func (p *pauseDetector) run() {
	for {
		time.Sleep(checkInterval)
		p.check(time.Since(p.start))
	}
}

// check records the pauses until now, which is the time since the detector's start. It is called on one goroutine only.
func (p *pauseDetector) check(now time.Duration) {
	p.last.Store(&pauseCheck{at: now, paused: p.total(now)})
}

// total returns the total of the pauses until now, which is the time since the detector's start.
func (p *pauseDetector) total(now time.Duration) time.Duration {
	last := p.last.Load()
	if late := now - last.at - checkInterval; late >= minPause {
		return last.paused + late
	}
	return last.paused
}

// Paused returns the total duration of all pauses of the process that lasted at least a second. A timeout counts as a failure of
// the upstream only if the value has not grown since the timeout was set. It is safe for concurrent use.
func Paused() time.Duration {
	p := detector()
	return p.total(time.Since(p.start))
}
