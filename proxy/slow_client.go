package proxy

import "time"

// stallAfter is for how long a client is awaited, in sum, before an upstream that ends the
// connection may have done so because of that.
const stallAfter = 500 * time.Millisecond

// The client's share in the time that an upload takes decides who is to blame for what ends it.
// What is awaited at one moment does not tell: between two bytes of a client that sends them one
// by one, it is the upstream. Nor does the time before the first read: a body that is sent
// without delay needs next to none, however late its upstream was ready.

// slow reports whether the client is to blame for an exchange whose time is up: its body is
// awaited, or it took most of the time.
func (b *requestBody) slow() bool {
	return b.body != nil && (b.reading.Load() || b.tookMost(time.Since(b.x.start)))
}

// stalls reports whether an upstream that ends the connection or the stream now may do so because
// the client is slow: its body has not come, it has been awaited for some time, and for most
// of the time.
func (b *requestBody) stalls() bool {
	if b.body == nil || b.ended.Load() {
		return false
	}
	now := time.Since(b.x.start)
	return b.waited(now) >= stallAfter && b.tookMost(now)
}

// silent reports whether the body is awaited, and nothing of it has come for d, or nearly so.
func (b *requestBody) silent(d time.Duration) bool {
	since := b.since.Load()
	return since != 0 && !b.ended.Load() && time.Since(b.x.start)-time.Duration(since) >= d*9/10
}

// keepsSilent reports whether a stream is silent perhaps because the upstream waits for the client's
// body.
func (x *exchange) keepsSilent() bool {
	return x.upload.silent(x.route.config.IdleTimeout) || x.grpc == nil && x.upload.stalls()
}

func (b *requestBody) tookMost(now time.Duration) bool {
	begun := time.Duration(b.begun.Load())
	return begun != 0 && b.waited(now) > (now-begun)/2
}

// stalled reports whether a reset is due to a client that is slow to send its body. Where the
// connection has ended, or the transport has closed the body, before it returned, what was the
// case then counts.
func (a *attempt) stalled() bool {
	b := &a.x.upload
	if a.status != 0 && a.x.grpc != nil {
		return false // both sides of a call may be silent at any time
	}
	return b.stalledBefore.Load() || !b.aborted.Load() && b.stalls()
}
