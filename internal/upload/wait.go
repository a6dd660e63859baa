package upload

import (
	"time"

	"cbproxy/internal/http1"
)

// Whether the client or the upstream is too slow depends on the time for which the proxy waits for the client's body, the client
// wait. A client for which the proxy is waiting counts as slow at once. For one that is sending, the present state is not enough:
// between two bytes of a client that sends them one by one, the proxy waits for the upstream. Therefore the sum of the waits
// counts as well. The time before the first read does not, because the upstream may not have been ready for the body.
//
// A client is
//
//   - slow (IsSlow) if a transport is reading from it, or if the proxy has waited for it most of the time since the first read.
//     Then a timeout is not a failure of the upstream.
//   - stalling (IsStalling) if its body is incomplete and the proxy has waited for it for at least minStallTime and most of the
//     time since the first read. Then an upstream that ends the connection may do so for that reason. NoteStalling
//     records the state for WasStalling.
//   - idle (IsIdle) for a duration if nothing has arrived for so long. This is for the idle timeout of streams.

// minStallTime is the shortest client wait after which an upstream may have closed the connection because of it.
const minStallTime = 500 * time.Millisecond

// Arrived reports whether the whole body is known to have arrived, read or not. It can be false although it has.
func (b *Body) Arrived() bool {
	return b.source == nil || b.ended.Load() || http1.BodyReceived(b.source)
}

// readBegins records the begin of a read from the client.
func (b *Body) readBegins() {
	b.waitMu.Lock()
	defer b.waitMu.Unlock()
	b.waitingSince = time.Since(b.config.Start)
	b.firstRead.CompareAndSwap(0, int64(b.waitingSince))
}

// readEnds records the end of a read from the client.
func (b *Body) readEnds() {
	b.waitMu.Lock()
	defer b.waitMu.Unlock()
	b.completedReadTime += time.Since(b.config.Start) - b.waitingSince
	b.waitingSince = 0
}

// CompletedReadTime returns the time spent in completed reads.
func (b *Body) CompletedReadTime() time.Duration {
	b.waitMu.Lock()
	defer b.waitMu.Unlock()
	return b.completedReadTime
}

// ClientWait returns for how long the client was waited for, including a read that is in progress. now is the time since
// Config.Start.
func (b *Body) ClientWait(now time.Duration) time.Duration {
	b.waitMu.Lock()
	defer b.waitMu.Unlock()
	if b.waitingSince == 0 {
		return b.completedReadTime
	}
	return b.completedReadTime + max(now-b.waitingSince, 0)
}

// IsSlow reports whether the client is slow, as defined above.
func (b *Body) IsSlow() bool {
	return b.source != nil && (b.reading.Load() || b.tookMostOfTime(time.Since(b.config.Start)))
}

// IsStalling reports whether the client is stalling, as defined above.
func (b *Body) IsStalling() bool {
	if b.source == nil || b.ended.Load() {
		return false
	}
	now := time.Since(b.config.Start)
	return b.ClientWait(now) >= minStallTime && b.tookMostOfTime(now)
}

// NoteStalling records whether the client is stalling now, and returns it. An error may be seen later, when the client continues.
func (b *Body) NoteStalling() (stalling bool) {
	if stalling = b.IsStalling(); stalling {
		b.wasStalling.Store(true)
	}
	return stalling
}

// WasStalling reports whether the client was stalling at an earlier call of NoteStalling or NoteClosedDuringRead.
func (b *Body) WasStalling() bool { return b.wasStalling.Load() }

// IsIdle reports whether a read is in progress to which nothing has arrived for at least nine tenths of d.
func (b *Body) IsIdle(d time.Duration) bool {
	b.waitMu.Lock()
	since := b.waitingSince
	b.waitMu.Unlock()
	return since != 0 && !b.ended.Load() && time.Since(b.config.Start)-since >= d*9/10
}

func (b *Body) tookMostOfTime(now time.Duration) bool {
	firstRead := time.Duration(b.firstRead.Load())
	return firstRead != 0 && b.ClientWait(now) > (now-firstRead)/2
}
