package upload

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrTooLarge is the error of a body with more than Config.MaxBytes bytes.
	ErrTooLarge = errors.New("the request's body is larger than limits.body_bytes")
	// ErrStopped is what the transport reads from a body that is read by nothing else but the proxy from now on.
	ErrStopped = errors.New("the request has ended")
)

// Config is what a Body is made from.
type Config struct {
	// Request is the client's request, with the body and its trailers.
	Request *http.Request
	// Writer is the response's. Its controller sets the read deadlines of the client's connection.
	Writer http.ResponseWriter
	// Start is the start of the exchange.
	Start time.Time
	// MaxBytes is the size of the largest body that is forwarded.
	MaxBytes int64
	// ReadTimeout is the longest pause of a client that already has its response, limits.read_header_timeout.
	ReadTimeout time.Duration
	// Owner is notified when the transport gives up a read that is under way.
	Owner Owner
}

// Owner is the exchange that a Body belongs to.
type Owner interface {
	// AbortRead is called when the transport gives up a read of the body that is under way, on a goroutine of the transport's.
	AbortRead()
}

// Body is the body of a client's request on its way to the upstream. It remembers the first error of the client, which is no
// failure of the upstream, and how long the client was waited for. The transport reads it by a Reader, on a goroutine of its
// own. The zero Body is that of a request without one. Methods are safe for concurrent use unless they say otherwise.
type Body struct {
	config Config
	source io.ReadCloser // the client's; nil: the request has no body
	size   int64         // Content-Length; -1: unknown

	read            atomic.Int64 // bytes that have been read
	reading         atomic.Bool  // a read of source by the transport is under way
	ended           atomic.Bool  // all of it has been read
	firstError      atomic.Pointer[error]
	readFailed      atomic.Bool // a read may have been made to fail: the connection can't be kept
	stopped         atomic.Bool // the transport reads no more
	transportGaveUp atomic.Bool // the transport has given up a request whose client has no fault
	wasStalling     atomic.Bool // IsStalling was true when the connection ended, or before transportGaveUp was set

	trailer   http.Header // of the client's request; net/http fills it at the body's end
	announced []string    // the fields of trailer that may be forwarded

	firstRead         atomic.Int64 // nanoseconds from the exchange's start to the first read; 0: there was none
	completedReadTime atomic.Int64 // nanoseconds spent in completed reads
	waitingSince      atomic.Int64 // nanoseconds from the exchange's start to the read that is under way; 0: there is none

	exchangeDone      <-chan struct{}             // closed with the exchange; nil: the upstream need not send 100 (Continue)
	finalResponseSeen atomic.Pointer[func() bool] // reports whether the upstream has responded without asking for the body

	readMu   sync.Mutex // held during a read of source
	retained retained   // the first bytes of the body
}

// Init makes b the body of c.Request. It is called before any other method.
func (b *Body) Init(c Config) {
	b.config, b.source, b.size = c, c.Request.Body, c.Request.ContentLength
	b.retained.size = b.size
}

// Exists reports whether the request has a body.
func (b *Body) Exists() bool { return b.source != nil }

// Ended reports whether all of the body has been read.
func (b *Body) Ended() bool { return b.ended.Load() }

// BytesRead returns how much of the body has been read.
func (b *Body) BytesRead() int64 { return b.read.Load() }

// ExpectContinue is called for a request with the field Expect, before the first read. The body is not read if the upstream
// has responded without asking for it. done is closed with the exchange.
func (b *Body) ExpectContinue(done <-chan struct{}) { b.exchangeDone = done }

// ExpectsContinue reports whether ExpectContinue has been called.
func (b *Body) ExpectsContinue() bool { return b.exchangeDone != nil }

// SetFinalResponseSeen sets the function that reports whether the upstream has responded to the current request without asking for its
// body.
func (b *Body) SetFinalResponseSeen(refused func() bool) { b.finalResponseSeen.Store(&refused) }

// receive reads from the client; readMu must be held.
func (b *Body) receive(p []byte) (int, error) {
	began := time.Now()
	since := int64(began.Sub(b.config.Start))
	b.firstRead.CompareAndSwap(0, since)
	b.waitingSince.Store(since)
	n, err := b.source.Read(p)
	b.waitingSince.Store(0) // first, so that no time is counted twice
	b.completedReadTime.Add(int64(time.Since(began)))
	if over := b.read.Add(int64(n)) - b.config.MaxBytes; over > 0 {
		n, err = max(0, n-int(over)), ErrTooLarge
	}
	switch {
	case err == nil:
	case err == io.EOF:
		b.ended.Store(true)
		maps.DeleteFunc(b.trailer, func(name string, _ []string) bool { return !slices.Contains(b.announced, name) })
	case err != ErrTooLarge && b.readFailed.Load(): // the proxy made the read fail
	case errors.Is(err, os.ErrDeadlineExceeded): // likewise; the deadline's setter knows the cause
		b.readFailed.Store(true)
	default:
		b.firstError.CompareAndSwap(nil, &err)
	}
	b.retained.add(p[:n], err)
	return n, err
}

// receiveForTransport is receive for a Reader.
func (b *Body) receiveForTransport(p []byte) (int, error) {
	if b.exchangeDone != nil && b.read.Load() == 0 {
		if refused := b.finalResponseSeen.Load(); refused != nil && (*refused)() {
			// http.Transport sends the body nevertheless, to keep the connection, and reading it would make the client send
			// it. An error would discard the response.
			<-b.exchangeDone
			return 0, ErrStopped
		}
	}
	b.readMu.Lock()
	defer b.readMu.Unlock()
	b.reading.Store(true) // before stopped is read, see Reader.Close
	defer b.reading.Store(false)
	if b.stopped.Load() {
		return 0, ErrStopped
	}
	return b.receive(p)
}
