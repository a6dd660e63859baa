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
	// errStopped is returned to a transport that must read no more of the body.
	errStopped = errors.New("the proxy reads no more of the request's body")
)

// Config configures a Body.
type Config struct {
	// Request is the client's request, with the body and its trailers.
	Request *http.Request
	// Writer is that of the response. The body's read deadlines are set with its http.ResponseController.
	Writer http.ResponseWriter
	// Start is when the request was received.
	Start time.Time
	// MaxBytes is the size of the largest body that is forwarded.
	MaxBytes int64
	// ReadTimeout limits each read from a client that already has its response. It is limits.read_header_timeout.
	ReadTimeout time.Duration
	// Owner is notified when a transport closes the body during a read.
	Owner Owner
}

// Owner processes the request of a Body.
type Owner interface {
	// AbortRead is called when a transport closes the body during a read, on a goroutine of the transport.
	AbortRead()
}

// Body is the body of a client's request. It records the first error of reading from the client, which is no failure of the
// upstream, and the time spent on waiting for the client. A transport reads it with a bodyReader, on a goroutine of the
// transport. The zero Body is that of a request without a body. Methods are safe for concurrent use unless they say otherwise.
type Body struct {
	config Config
	source io.ReadCloser // the client's body; nil: the request has none
	size   int64         // Content-Length; -1: unknown

	read             atomic.Int64 // bytes that have been read
	reading          atomic.Bool  // a transport is reading from source
	ended            atomic.Bool  // all of it has been read
	firstError       atomic.Pointer[error]
	readFailed       atomic.Bool // a read may have been made to fail, so the connection cannot be reused
	stopped          atomic.Bool // transports must read no more
	closedDuringRead atomic.Bool // NoteClosedDuringRead has been called
	wasStalling      atomic.Bool // IsStalling was true when NoteStalling was called

	trailer   http.Header // of the client's request; net/http sets the values when the body ends
	announced []string    // the fields of trailer that may be forwarded

	firstRead         atomic.Int64  // nanoseconds from Config.Start to the first read; 0: there was none
	waitMu            sync.Mutex    // guards the fields below: at the end of a read its time moves from one to the other
	completedReadTime time.Duration // time spent in completed reads
	waitingSince      time.Duration // from Config.Start to the read that is in progress; 0: there is none

	requestDone       <-chan struct{}             // closed at the end of the request; nil: the upstream need not send 100 (Continue)
	finalResponseSeen atomic.Pointer[func() bool] // reports whether the upstream has responded without sending 100 (Continue)

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

// Err returns the first error of reading from the client, or nil. Errors that the proxy itself caused do not count.
func (b *Body) Err() error {
	if err := b.firstError.Load(); err != nil {
		return *err
	}
	return nil
}

// ExpectContinue is called for a request with the field Expect, before the first read. Transports then do not read the body if
// the upstream has sent a final response and no 100 (Continue). done is closed at the end of the request.
func (b *Body) ExpectContinue(done <-chan struct{}) { b.requestDone = done }

// ExpectsContinue reports whether ExpectContinue has been called.
func (b *Body) ExpectsContinue() bool { return b.requestDone != nil }

// SetFinalResponseSeen sets the function that reports whether the upstream has begun to respond to the current request and has
// sent no 100 (Continue). It is for requests with ExpectContinue.
func (b *Body) SetFinalResponseSeen(seen func() bool) { b.finalResponseSeen.Store(&seen) }

// receive reads from the client, and records errors and times. readMu must be held.
func (b *Body) receive(p []byte) (int, error) {
	b.readBegins()
	n, err := b.source.Read(p)
	b.readEnds()
	if over := b.read.Add(int64(n)) - b.config.MaxBytes; over > 0 {
		n, err = max(0, n-int(over)), ErrTooLarge
	}
	switch {
	case err == nil:
	case err == io.EOF:
		b.ended.Store(true)
		maps.DeleteFunc(b.trailer, func(name string, _ []string) bool { return !slices.Contains(b.announced, name) })
	case err != ErrTooLarge && b.readFailed.Load(): // FailRead caused it
	case errors.Is(err, os.ErrDeadlineExceeded): // the proxy set the deadline, so it is no error of the client
		b.readFailed.Store(true)
	default:
		b.firstError.CompareAndSwap(nil, &err)
	}
	b.retained.add(p[:n], err)
	return n, err
}

// receiveForTransport is receive for a bodyReader.
func (b *Body) receiveForTransport(p []byte) (int, error) {
	if b.requestDone != nil && b.read.Load() == 0 {
		if seen := b.finalResponseSeen.Load(); seen != nil && (*seen)() {
			// http.Transport would send the body nevertheless, to reuse the connection, and a read would make net/http ask the
			// client for it. An error would make http.Transport discard the response.
			<-b.requestDone
			return 0, errStopped
		}
	}
	b.readMu.Lock()
	defer b.readMu.Unlock()
	b.reading.Store(true) // before stopped is read, see bodyReader.Close
	defer b.reading.Store(false)
	if b.stopped.Load() {
		return 0, errStopped
	}
	return b.receive(p)
}
