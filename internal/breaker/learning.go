package breaker

import (
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker/adaptive"
)

// learning gives the adaptive.Learner of a breaker, which all closed states use, a lock and a clock. It is safe for concurrent use.
type learning struct {
	mode atomic.Int32 // an adaptive.Mode
	env  *Environment

	mu      sync.Mutex
	learner *adaptive.Learner // nil: it has never been used; guarded by mu
	base    time.Time         // when it was made; guarded by mu
}

// configure applies o. What was learnt is kept.
func (l *learning) configure(o adaptive.Options) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.learner != nil:
		l.learner.Configure(o)
	case o.Mode != adaptive.Off:
		l.learner, l.base = adaptive.NewLearner(o), l.env.now()
	}
	l.mode.Store(int32(o.Mode))
}

// observe counts a call of a closed state, and reports whether the breaker opens.
func (l *learning) observe(o *outcome) bool {
	mode := adaptive.Mode(l.mode.Load())
	if mode == adaptive.Off {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.learner.Observe(l.env.now().Sub(l.base), o.failed, o.injected) && mode == adaptive.Enforce
}

// recovered begins a closed state after an opening.
func (l *learning) recovered() {
	if adaptive.Mode(l.mode.Load()) == adaptive.Off {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.learner.Recovered(l.env.now().Sub(l.base))
}
