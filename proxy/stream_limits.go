package proxy

import (
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/stream"
	"cbproxy/internal/upstream"
)

// watchStream makes the route's stream limits apply to the body. The exchange's timer, which the watch sets to the end of a limit if
// idle_timeout ends later, calls its Check.
func (b *responseBody) watchStream() {
	c, h := &b.attempt.x.route.Config.Stream, b.res.Header
	limits := stream.Limits{FirstEvent: c.FirstEventTimeout, MinRate: c.MinBytesPerSecond, Window: c.Window}
	if limits.Any() {
		b.watch.Store(stream.NewWatch(limits, stream.FormatOf(h.Get("Content-Type"), h["Content-Encoding"] != nil), b.attempt.x))
	}
}

// StreamClock implements stream.Env.
func (x *exchange) StreamClock() stream.Clock {
	now := time.Since(x.began)
	return stream.Clock{Now: now, ClientWait: x.upload.ClientWait(now), Paused: upstream.Paused()}
}

// EndStream implements stream.Env. There may be another attempt if the response is held.
func (x *exchange) EndStream(err error) {
	b := &x.download
	b.attempt.cancel(err)
	switch {
	case !b.Holds():
		x.upload.FailRead()
	case x.retries == nil || !x.upload.Replayable():
		x.stopUpload(events.ReasonTimeout)
	}
}
