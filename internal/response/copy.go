package response

import (
	"net/http"
	"sync"
)

// CopyBuffers implements httputil.BufferPool. It is safe for concurrent use.
type CopyBuffers struct{}

const copyBufferSize = 16 << 10 // bytes; each silent stream holds one

var copyBufferPool = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

// Get implements httputil.BufferPool.
func (CopyBuffers) Get() []byte { return copyBufferPool.Get().(*[copyBufferSize]byte)[:] }

// Put implements httputil.BufferPool.
func (CopyBuffers) Put(b []byte) { copyBufferPool.Put((*[copyBufferSize]byte)(b)) }

// MoveHeader moves the fields of a complete response to h, where ReverseProxy would copy them one by one. For other responses,
// ReverseProxy uses the fields to decide when to flush. Fields of the proxy's own names must have been removed from res.
func MoveHeader(h http.Header, res *http.Response) {
	for name, values := range res.Header {
		h[name] = values
	}
	res.Header = nil
}
