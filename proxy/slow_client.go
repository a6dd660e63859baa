package proxy

import "time"

// minStallTime is how long a client must have been waited for, in total, before an upstream that closes the connection may
// have done so because of that.
const minStallTime = 500 * time.Millisecond

// Whether the client or the upstream is too slow depends on the client's share in the duration of an upload. The state at one
// moment does not tell: between two bytes of a client that sends them one by one, the upstream is waited for. Nor does the
// time before the first read count: a body that is sent without delay needs little of it, however late its upstream was ready.

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

// clientIsSilent reports whether a stream may be silent because the upstream waits for the client's body.
func (x *exchange) clientIsSilent() bool {
	return x.upload.isSilent(x.route.config.IdleTimeout) || x.grpc == nil && x.upload.isStalling()
}

func (b *requestBody) tookMostOfTime(now time.Duration) bool {
	begun := time.Duration(b.firstRead.Load())
	return begun != 0 && b.waited(now) > (now-begun)/2
}

// stalled reports whether a reset is caused by a client that is slow to send its body. If the connection has ended, or the
// transport has closed the body, before the transport returned, the state at that time counts.
func (a *attempt) stalled() bool {
	b := &a.x.upload
	if a.status != 0 && a.x.grpc != nil {
		return false // either side of a call may be silent at any time
	}
	return b.wasStalling.Load() || !b.aborted.Load() && b.isStalling()
}
