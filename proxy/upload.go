package proxy

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

	"cbproxy/internal/message"
	"cbproxy/internal/upstream"
)

var errBodyTooLarge = errors.New("the request's body is larger than limits.body_bytes")

// requestBody is a client's body on its way to the upstream. It remembers the first error of the client, which is no failure
// of the upstream. The transport reads it on a goroutine of its own.
type requestBody struct {
	x            *exchange
	body         io.ReadCloser
	limit        int64
	pauseTimeout time.Duration // limits.read_header_timeout: the longest pause of a client that already has its response
	read         atomic.Int64
	reading      atomic.Bool // a read of the client's body is under way
	ended        atomic.Bool
	firstError   atomic.Pointer[error]

	interrupted atomic.Bool // a read may have been made to fail: the connection can't be kept

	trailer   http.Header // of the client's request; net/http fills it at the body's end
	announced []string    // the fields of trailer that may be forwarded

	firstRead    atomic.Int64 // nanoseconds from the exchange's start to the first read; 0: there was none
	waitTime     atomic.Int64 // nanoseconds spent in completed reads
	waitingSince atomic.Int64 // nanoseconds from the exchange's start to the read that is under way; 0: there is none

	exchangeDone <-chan struct{}         // closed with the exchange; nil: the upstream need not send 100 (Continue)
	attempt      atomic.Pointer[attempt] // the current one, if exchangeDone is not nil

	prefetched []byte // was read before admission, and Read has not returned it yet; guarded by readMu

	retained retained // what was read; guarded by readMu, except for its limit

	readMu  sync.Mutex  // held during a read of body
	closed  atomic.Bool // the transport reads no more
	aborted atomic.Bool // the transport has given up a request whose client has no fault

	wasStalling atomic.Bool // isStalling was true when the connection ended, or before aborted was set
}

// Read implements io.Reader for the transport.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.exchangeDone != nil && b.read.Load() == 0 {
		if a := b.attempt.Load(); a.gotFirstByte.Load() && !a.gotContinue.Load() {
			// http.Transport sends the body nevertheless, to keep the connection, and reading it would make the client send
			// it. An error would discard the response.
			<-b.exchangeDone
			return 0, errExchangeDone
		}
	}
	b.readMu.Lock()
	defer b.readMu.Unlock()
	b.reading.Store(true) // before closed is read, see Close
	defer b.reading.Store(false)
	if b.closed.Load() {
		return 0, errExchangeDone
	}
	if len(b.prefetched) > 0 {
		n := copy(p, b.prefetched)
		b.prefetched = b.prefetched[n:]
		return n, nil
	}
	return b.receive(p)
}

// receive reads from the client; readMu must be held.
func (b *requestBody) receive(p []byte) (int, error) {
	began := time.Now()
	since := int64(began.Sub(b.x.began))
	b.firstRead.CompareAndSwap(0, since)
	b.waitingSince.Store(since)
	n, err := b.body.Read(p)
	b.waitingSince.Store(0) // first, so that no time is counted twice
	b.waitTime.Add(int64(time.Since(began)))
	if over := b.read.Add(int64(n)) - b.limit; over > 0 {
		n, err = max(0, n-int(over)), errBodyTooLarge
	}
	b.retained.add(p[:n])
	switch {
	case err == nil:
	case err == io.EOF:
		b.ended.Store(true)
		maps.DeleteFunc(b.trailer, func(name string, _ []string) bool { return !slices.Contains(b.announced, name) })
	case err != errBodyTooLarge && b.interrupted.Load(): // the proxy made the read fail
	case errors.Is(err, os.ErrDeadlineExceeded): // likewise; the deadline's setter knows the cause
		b.interrupted.Store(true)
	default:
		b.firstError.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Close implements io.Closer for the transport, which reads no more of the body. Over HTTP/2 the transport waits for a read
// that is under way before it returns.
func (b *requestBody) Close() error {
	b.closed.Store(true)
	if b.reading.Load() {
		b.x.abortRead()
	}
	return nil
}

// discard reads the rest of the body.
func (b *requestBody) discard() {
	b.readMu.Lock()
	defer b.readMu.Unlock()
	buffer := copyBuffers{}.Get()
	defer copyBuffers{}.Put(buffer)
	for {
		if _, err := b.receive(buffer); err != nil {
			return // receive remembers the error
		}
	}
}

// passTrailers forwards the announced trailer fields of the client's request with out, except those that are the proxy's own.
func (b *requestBody) passTrailers(in, out *http.Request) {
	if len(in.Trailer) == 0 {
		return
	}
	b.trailer = in.Trailer
	upstream.RemoveHopByHopTrailers(b.trailer, upstream.ConnectionOptions(in.Header))
	maps.DeleteFunc(b.trailer, func(name string, _ []string) bool { return message.IsProxyField(name) || noTrailer[name] })
	b.announced = slices.Collect(maps.Keys(b.trailer))
	out.Trailer = b.trailer // the same map: its values are set at the body's end
}

// noTrailer are fields that route, describe or authenticate a request. An upstream that merges trailers into the header must
// not get them that way (RFC 9110, section 6.5.1). net/http refuses those that frame the message.
var noTrailer = map[string]bool{
	"Host": true, "Via": true,
	"Authorization": true, "Cookie": true, "Expect": true, "Content-Encoding": true, "Content-Type": true, "Content-Range": true,
}

// readError returns the first error of the client's body, nil if it had none.
func (b *requestBody) readError() error {
	if err := b.firstError.Load(); err != nil {
		return *err
	}
	return nil
}

// incomplete reports whether a part of the body may be left on the connection, or a read for what follows may have been made
// to fail.
func (b *requestBody) incomplete() bool {
	return b.body != nil && (!b.ended.Load() || b.interrupted.Load()) // in this order, see interruptRead
}

// detachBody stops the transport from reading the client's body, which it may do after it has returned. A handler must not
// return while its body is read: if net/http aborts that read just when it reaches the body's end, a read for the next request
// begins without a deadline, and net/http waits for it until the client sends something or closes.
func (x *exchange) detachBody() {
	if x.upload.body == nil || x.upload.ended.Load() || x.r.ProtoMajor > 1 {
		return
	}
	x.interruptRead()
	x.upload.readMu.Lock()
	x.upload.closed.Store(true)
	x.upload.readMu.Unlock()
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(lingerPause)) // for what net/http reads on
}
