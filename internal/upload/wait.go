package upload

import (
	"time"

	"cbproxy/internal/http1"
)

// Whether the client or the upstream is too slow depends on the client's share in the duration of an upload. The state at one
// moment does not tell: between two bytes of a client that sends them one by one, the upstream is waited for. Nor does the
// time before the first read count: a body that is sent without delay needs little of it, however late its upstream was ready.

// minStallTime is how long a client must have been waited for, in total, before an upstream that closes the connection may
// have done so because of that.
const minStallTime = 500 * time.Millisecond

// Arrived reports whether all of the body has arrived. It may be false for one that has arrived but is not read yet.
func (b *Body) Arrived() bool {
	return b.source == nil || b.ended.Load() || http1.BodyReceived(b.source)
}

// CompletedReadTime returns the time spent in completed reads.
func (b *Body) CompletedReadTime() time.Duration { return time.Duration(b.completedReadTime.Load()) }

// ClientWait returns how long the client was waited for, including a read that is under way. now is the time since the exchange's
// start.
func (b *Body) ClientWait(now time.Duration) time.Duration {
	waited := time.Duration(b.completedReadTime.Load())
	if since := b.waitingSince.Load(); since != 0 {
		waited += max(now-time.Duration(since), 0)
	}
	return waited
}

// IsSlow reports whether the client is the cause of a timeout: its body is waited for, or took most of the time.
func (b *Body) IsSlow() bool {
	return b.source != nil && (b.reading.Load() || b.tookMostOfTime(time.Since(b.config.Start)))
}

// IsStalling reports whether an upstream that closes the connection or the stream now may do so because the client is slow:
// its body has not arrived completely, and was waited for for minStallTime and most of the time.
func (b *Body) IsStalling() bool {
	if b.source == nil || b.ended.Load() {
		return false
	}
	now := time.Since(b.config.Start)
	return b.ClientWait(now) >= minStallTime && b.tookMostOfTime(now)
}

// IsIdle reports whether the body is waited for, and nothing of it has arrived for d, or nearly so.
func (b *Body) IsIdle(d time.Duration) bool {
	since := b.waitingSince.Load()
	return since != 0 && !b.ended.Load() && time.Since(b.config.Start)-time.Duration(since) >= d*9/10
}

func (b *Body) tookMostOfTime(now time.Duration) bool {
	begun := time.Duration(b.firstRead.Load())
	return begun != 0 && b.ClientWait(now) > (now-begun)/2
}
