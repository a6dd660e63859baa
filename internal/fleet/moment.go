package fleet

import (
	"sync/atomic"
	"time"
)

// moment is a time that is set and read at any moment. It goes by elapsed time, whatever becomes
// of the host's clock. Its zero value is long ago.
type moment struct{ at atomic.Pointer[time.Time] }

func (m *moment) set(t time.Time) { m.at.Store(&t) }

func (m *moment) clear() { m.at.Store(nil) }

// since returns how long ago the moment was; ok is false if it was never set.
func (m *moment) since(now time.Time) (d time.Duration, ok bool) {
	t := m.at.Load()
	if t == nil {
		return 0, false
	}
	return now.Sub(*t), true
}
