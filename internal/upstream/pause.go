package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	pauseCheck = 200 * time.Millisecond
	leastPause = time.Second // a busy machine may well run a timer some tenths of a second late
)

// processPauses notices that the process was stopped, by SIGSTOP, with its virtual machine, or by a machine without any
// time for it: what is due each pauseCheck then runs late.
type processPauses struct {
	begin  time.Time
	beat   atomic.Int64 // nanoseconds after begin at which run looked last
	paused atomic.Int64 // nanoseconds of all pauses until then
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

// unseen returns the pause since run looked last, 0 if there was none.
func (p *processPauses) unseen(now int64) int64 {
	if late := now - p.beat.Load() - int64(pauseCheck); late >= int64(leastPause) {
		return late
	}
	return 0
}

// Paused returns for how long the process has been stopped in all, each time for at least a second. What a time limit
// says of the upstream depends on whether it has grown since the limit was set. Safe for concurrent use.
func Paused() time.Duration {
	p := pauses()
	seen := p.paused.Load() // first: a pause that is seen meanwhile counts twice rather than not at all
	return time.Duration(seen + p.unseen(int64(time.Since(p.begin))))
}
