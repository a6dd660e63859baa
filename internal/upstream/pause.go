package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	pauseCheck = 200 * time.Millisecond
	leastPause = time.Second // a busy machine may run a timer some tenths of a second late
)

// processPauses detects that the process was stopped: by SIGSTOP, with its virtual machine, or by lack of CPU time. A check
// that is due each pauseCheck then runs late.
type processPauses struct {
	begin  time.Time
	beat   atomic.Int64 // nanoseconds from begin to the last check of run
	paused atomic.Int64 // nanoseconds of all pauses until that check
}

var pauses = sync.OnceValue(func() *processPauses {
	p := &processPauses{begin: time.Now()}
	go p.run()
	return p
})

func (p *processPauses) run() {
	for {
		time.Sleep(pauseCheck)
		now := int64(time.Since(p.begin))
		p.paused.Add(p.unseen(now))
		p.beat.Store(now)
	}
}

// unseen returns the pause since the last check of run, 0 if there was none.
func (p *processPauses) unseen(now int64) int64 {
	if late := now - p.beat.Load() - int64(pauseCheck); late >= int64(leastPause) {
		return late
	}
	return 0
}

// Paused returns for how long the process has been stopped in all, each time for at least a second. A timeout
// counts as a failure of the upstream only if the value has not grown since the timeout was set. Safe for concurrent use.
func Paused() time.Duration {
	p := pauses()
	seen := p.paused.Load() // first: a pause that is seen meanwhile counts twice rather than not at all
	return time.Duration(seen + p.unseen(int64(time.Since(p.begin))))
}
