package proxy

import (
	"time"

	"cbproxy/internal/http1"
)

// Whether the client or the upstream is too slow depends on the client's share in the duration of an upload. The state at one
// moment does not tell: between two bytes of a client that sends them one by one, the upstream is waited for. Nor does the
// time before the first read count: a body that is sent without delay needs little of it, however late its upstream was ready.

// isComplete reports whether all of the body has arrived. It may be false for one that has arrived but is not read yet. Safe
// for concurrent use.
func (b *requestBody) isComplete() bool {
	return b.body == nil || b.ended.Load() || http1.BodyReceived(b.body)
}

// waited returns how long the client was waited for, including a read that is under way. now is the time since the exchange's
// start. Safe for concurrent use.
func (b *requestBody) waited(now time.Duration) time.Duration {
	waited := time.Duration(b.waitTime.Load())
	if since := b.waitingSince.Load(); since != 0 {
		waited += max(now-time.Duration(since), 0)
	}
	return waited
}

// minStallTime is how long a client must have been waited for, in total, before an upstream that closes the connection may
// have done so because of that.
const minStallTime = 500 * time.Millisecond

// isSlow reports whether the client is the cause of a timeout: its body is waited for, or took most of the time.
func (b *requestBody) isSlow() bool {
	return b.body != nil && (b.reading.Load() || b.tookMostOfTime(time.Since(b.x.began)))
}

// isStalling reports whether an upstream that closes the connection or the stream now may do so because the client is slow:
// its body has not arrived completely, and was waited for for minStallTime and most of the time.
func (b *requestBody) isStalling() bool {
	if b.body == nil || b.ended.Load() {
		return false
	}
	now := time.Since(b.x.began)
	return b.waited(now) >= minStallTime && b.tookMostOfTime(now)
}

// isSilent reports whether the body is waited for, and nothing of it has arrived for d, or nearly so.
func (b *requestBody) isSilent(d time.Duration) bool {
	since := b.waitingSince.Load()
	return since != 0 && !b.ended.Load() && time.Since(b.x.began)-time.Duration(since) >= d*9/10
}

func (b *requestBody) tookMostOfTime(now time.Duration) bool {
	begun := time.Duration(b.firstRead.Load())
	return begun != 0 && b.waited(now) > (now-begun)/2
}
