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

	"cbproxy/fallbacks"
	"cbproxy/internal/message"
	"cbproxy/internal/upstream"
)

var (
	errBodyTooLarge = errors.New("the request's body is larger than limits.body_bytes")
	errTooLong      = errors.New("malformed response: its body is longer than its Content-Length")
)

// requestBody is a client's body on its way upstream. It remembers the client's fault, so
// that no upstream is blamed for it. The transport reads it on a goroutine of its own.
type requestBody struct {
	x       *exchange
	body    io.ReadCloser
	limit   int64
	pause   time.Duration // limits.read_header_timeout: for how long the client may send nothing once it has its answer
	read    atomic.Int64
	reading atomic.Bool // the client is awaited
	ended   atomic.Bool
	fault   atomic.Pointer[error]

	interrupted atomic.Bool // a read may have been made to fail: the connection can't be kept

	trailer   http.Header // of the client's request; net/http fills it at the body's end
	announced []string    // the fields of trailer that may go upstream

	begun   atomic.Int64 // nanoseconds of the exchange before the first read; 0: there was none
	awaited atomic.Int64 // nanoseconds for which the client was awaited, in all reads that are done
	since   atomic.Int64 // nanoseconds of the exchange before the read that is under way; 0: there is none

	over    <-chan struct{}         // closed with the exchange; nil: the upstream need not ask for the body first
	expects atomic.Pointer[attempt] // the current one, if over is not nil

	ahead []byte // was read before the request was admitted, and Read has not returned it yet; guarded by turn

	kept kept // of what was read; read and written under turn, save for its limit

	turn    sync.Mutex  // held by whoever reads body
	closed  atomic.Bool // the transport reads no more
	aborted atomic.Bool // it has given up a request whose client is well

	stalledBefore atomic.Bool // stalls was true when the connection ended, or before aborted was set
}

// Read is for the transport.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.over != nil && b.read.Load() == 0 {
		if a := b.expects.Load(); a.answered.Load() && !a.wanted.Load() {
			// http.Transport sends the body nevertheless, to keep the connection, and reading it
			// would tell the client to go ahead. An error would lose it the answer.
			<-b.over
			return 0, errEnded
		}
	}
	b.turn.Lock()
	defer b.turn.Unlock()
	b.reading.Store(true) // first, so that Close sees it or is seen
	defer b.reading.Store(false)
	if b.closed.Load() {
		return 0, errEnded
	}
	if len(b.ahead) > 0 {
		n := copy(p, b.ahead)
		b.ahead = b.ahead[n:]
		return n, nil
	}
	return b.receive(p)
}

// receive reads from the client; turn must be held.
func (b *requestBody) receive(p []byte) (int, error) {
	began := time.Now()
	since := int64(began.Sub(b.x.start))
	b.begun.CompareAndSwap(0, since)
	b.since.Store(since)
	n, err := b.body.Read(p)
	b.since.Store(0) // first, so that no time is counted twice
	b.awaited.Add(int64(time.Since(began)))
	if over := b.read.Add(int64(n)) - b.limit; over > 0 {
		n, err = max(0, n-int(over)), errBodyTooLarge
	}
	b.kept.add(p[:n])
	switch {
	case err == nil:
	case err == io.EOF:
		b.ended.Store(true)
		maps.DeleteFunc(b.trailer, func(name string, _ []string) bool { return !slices.Contains(b.announced, name) })
	case err != errBodyTooLarge && b.interrupted.Load(): // which is not the client's fault
	case errors.Is(err, os.ErrDeadlineExceeded): // likewise; who has set the deadline knows why
		b.interrupted.Store(true)
	default:
		b.fault.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Close is for the transport, which wants no more of the body. Over HTTP/2 it waits for a
// read that is under way before it tells what has become of the request.
func (b *requestBody) Close() error {
	b.closed.Store(true)
	if b.reading.Load() {
		b.x.abortRead()
	}
	return nil
}

// discard reads what is left of the body, by its own rules.
func (b *requestBody) discard() {
	b.turn.Lock()
	defer b.turn.Unlock()
	buffer := copyBuffers{}.Get()
	defer copyBuffers{}.Put(buffer)
	for {
		if _, err := b.receive(buffer); err != nil {
			return // it is remembered
		}
	}
}

// passTrailers lets the announced trailer fields of the client's request go upstream with
// out, save those that are the proxy's own.
func (b *requestBody) passTrailers(in, out *http.Request) {
	if len(in.Trailer) == 0 {
		return
	}
	b.trailer = in.Trailer
	upstream.RemoveHopByHopTrailers(b.trailer, upstream.ConnectionOptions(in.Header))
	maps.DeleteFunc(b.trailer, func(name string, _ []string) bool { return message.IsProxyField(name) || noTrailer[name] })
	b.announced = slices.Collect(maps.Keys(b.trailer))
	out.Trailer = b.trailer // the same map: its values come with the body's end
}

// noTrailer are fields that route, describe or authenticate a request: an upstream that
// takes trailers for header fields must not get them behind its back (RFC 9110, section
// 6.5.1). net/http refuses those that frame.
var noTrailer = map[string]bool{
	"Host": true, "Via": true,
	"Authorization": true, "Cookie": true, "Expect": true, "Content-Encoding": true, "Content-Type": true, "Content-Range": true,
}

// faulty returns the first error that the client's body had, nil if it had none.
func (b *requestBody) faulty() error {
	if err := b.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// left reports whether something of the body may be left on the connection, or a read for
// what comes after it may have been made to fail.
func (b *requestBody) left() bool {
	return b.body != nil && (!b.ended.Load() || b.interrupted.Load()) // in this order: see endRead
}

// takeUpload takes the client's body away from the transport, which may go on reading it
// after it has returned. A handler must not end while its body is read: where net/http
// aborts that read at the moment when it comes to the body's end, a read for the next
// request begins without a deadline, and net/http waits for that until the client sends
// something or leaves.
func (x *exchange) takeUpload() {
	if x.upload.body == nil || x.upload.ended.Load() || x.r.ProtoMajor > 1 {
		return
	}
	x.endRead()
	x.upload.turn.Lock()
	x.upload.closed.Store(true)
	x.upload.turn.Unlock()
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(lingerPause)) // for what net/http reads on
}

// readWhole reads a small response before the client sees any of it, so that one that
// breaks off can still be answered for.
func (a *attempt) readWhole(res *http.Response, lesson fallbacks.Recorder) error {
	b := &a.x.buffered
	b.take(int(res.ContentLength) + 1) // one more, so that the end is seen
	n := 0
	for {
		m, err := res.Body.Read(b.data[n:])
		n += m
		if err == io.EOF {
			break
		}
		if err == nil && n == len(b.data) {
			err = errTooLong
		}
		if err != nil {
			_ = b.Close()
			a.blame(err)
			return err
		}
	}
	_ = res.Body.Close() // it has been read
	b.data = b.data[:n]
	a.succeeded()
	learnt(lesson, b.data)
	res.Body = b
	return nil
}

// bufferedBody is a body that has been read whole.
type bufferedBody struct {
	data   []byte
	lent   *[smallBody]byte // where data stands, if it came from the pool
	offset int
}

// smallBody is the size of the buffers that are kept for bodies; a larger one is made and
// thrown away.
const smallBody = 64<<10 + 1

var smallBodies = sync.Pool{New: func() any { return new([smallBody]byte) }}

func (b *bufferedBody) take(n int) {
	if n > smallBody {
		b.data = make([]byte, n)
		return
	}
	b.lent = smallBodies.Get().(*[smallBody]byte)
	b.data = b.lent[:n]
}

func (b *bufferedBody) Read(p []byte) (int, error) {
	if b.offset == len(b.data) {
		return 0, io.EOF
	}
	n := copy(p, b.data[b.offset:])
	b.offset += n
	return n, nil
}

// Close gives the buffer back; there is nothing to read any more.
func (b *bufferedBody) Close() error {
	if b.lent != nil {
		smallBodies.Put(b.lent)
		b.lent = nil
	}
	b.data, b.offset = nil, 0
	return nil
}
