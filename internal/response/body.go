package response

import (
	"io"
	"sync/atomic"
	"time"
)

// Reader observes the reads from an upstream. Its methods are called on the goroutine that reads the Body.
type Reader interface {
	// BeginRead is called before each read.
	BeginRead()
	// EndRead is called after each read, with what was read and the error. took is its duration, 0 if it is not measured.
	EndRead(p []byte, took time.Duration, err error)
}

// Body is an upstream's body on its way to the client. Begin must be called first, and again for the body of another attempt. Methods are
// for the goroutine that reads the body unless they say otherwise.
type Body struct {
	reader  Reader
	source  io.ReadCloser
	stream  bool
	timed   bool
	holding atomic.Bool // Hold is running
	held    Held        // read before the header section is sent

	started            atomic.Bool // Begin has been called; set after stream, which IsSilent reads on other goroutines
	waitingForUpstream atomic.Bool // until the first bytes are sent to the client, and during each read
	ended              atomic.Bool // the upstream's body has ended

	start      time.Time // zero: clientWait is not measured
	clientWait ClientWait
}

// Options are what else is known of a body.
type Options struct {
	// Stream means that the body is forwarded as it arrives.
	Stream bool
	// Timed means that the duration of reads is measured.
	Timed bool
	// Start is the time from which ClientWait counts; zero: it is not measured.
	Start time.Time
}

// Begin makes b the body source. r observes the reads.
func (b *Body) Begin(r Reader, source io.ReadCloser, o Options) {
	b.reader, b.source, b.stream, b.timed, b.start = r, source, o.Stream, o.Timed, o.Start
	b.held = Held{}
	b.clientWait.Reset(!o.Start.IsZero())
	b.ended.Store(false)
	b.waitingForUpstream.Store(true) // until something is sent to the client
	b.started.Store(true)
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	if !b.held.IsEmpty() {
		b.waitingForUpstream.Store(false)
		return b.held.Read(p)
	}
	return b.readUpstream(p)
}

// Close implements io.Closer. It may be called on any goroutine.
func (b *Body) Close() error { return b.source.Close() }

func (b *Body) readUpstream(p []byte) (n int, err error) {
	b.reader.BeginRead()
	b.waitingForUpstream.Store(true)
	b.clientWait.Set(false, b.start)
	var took time.Duration
	if b.timed {
		begun := time.Now()
		n, err = b.source.Read(p)
		took = time.Since(begun)
	} else {
		n, err = b.source.Read(p)
	}
	b.clientWait.Set(true, b.start)
	b.ended.Store(err != nil)
	b.reader.EndRead(p[:n], took, err)
	b.waitingForUpstream.Store(false)
	return n, err
}

// Hold reads the first bytes of the body, and on until begun returns true, before the header section is sent: see Held.Fill. The next
// reads return what was read.
func (b *Body) Hold(begun func() bool) error {
	b.holding.Store(true)
	defer b.holding.Store(false)
	return b.held.Fill(func(p []byte) (int, error) {
		n, err := b.readUpstream(p)
		b.waitingForUpstream.Store(true) // nothing has been sent to the client
		b.clientWait.Set(false, b.start)
		return n, err
	}, begun)
}

// Holds reports whether Hold is running. Safe for concurrent use.
func (b *Body) Holds() bool { return b.holding.Load() }

// IsStream reports whether the body is a stream. It is safe for concurrent use once Started returns true.
func (b *Body) IsStream() bool { return b.stream }

// IsSilent reports whether the body is a stream that waits for the upstream. Safe for concurrent use.
func (b *Body) IsSilent() bool {
	return b.started.Load() && b.stream && b.waitingForUpstream.Load() && !b.ended.Load()
}

// IsWriting reports whether what has been read is being sent to the client. Safe for concurrent use.
func (b *Body) IsWriting() bool { return b.started.Load() && !b.waitingForUpstream.Load() }

// Started reports whether Begin has been called. Safe for concurrent use.
func (b *Body) Started() bool { return b.started.Load() }

// SetStarted sets what Started returns: false while there may be another attempt.
func (b *Body) SetStarted(started bool) { b.started.Store(started) }

// ClientWait returns how long the client has been waited for to take what was read, if that is measured. now is the time since
// Options.Start. Safe for concurrent use.
func (b *Body) ClientWait(now time.Duration) time.Duration { return b.clientWait.Total(now) }
