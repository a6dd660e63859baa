package fleet

import (
	"sync/atomic"
	"time"
)

// atomicTime is a time that is set and read at any atomicTime. It goes by elapsed time, whatever becomes
// of the host's clock. Its zero value is long ago.
type atomicTime struct{ at atomic.Pointer[time.Time] }

func (m *atomicTime) set(t time.Time) { m.at.Store(&t) }

func (m *atomicTime) clear() { m.at.Store(nil) }

// since returns how long ago the moment was; ok is false if it was never set.
func (m *atomicTime) since(now time.Time) (d time.Duration, ok bool) {
	t := m.at.Load()
	if t == nil {
		return 0, false
	}
	return now.Sub(*t), true
}
