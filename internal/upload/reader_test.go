package upload_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/upload"
)

// replayable returns the body of a request that can be sent again.
func replayable(body string) *upload.Body {
	b := new(upload.Body)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	b.Init(upload.Config{Request: r, Writer: httptest.NewRecorder(), Start: time.Now(), MaxBytes: 1 << 20})
	b.RetainForReplay()
	return b
}

// http.Transport closes the body of a request that it could not send on a connection of HTTP/2, and then sends the request
// with that body on another one.
func TestBodyThatIsClosedUnreadCanBeRead(t *testing.T) {
	p := replayable("hello")
	r, _ := p.NewReader()
	_ = r.Close()
	if text, err := io.ReadAll(r); string(text) != "hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// A body that was read in part is read from the start by the next request, and no longer by the one before.
func TestNextReaderReadsFromTheStart(t *testing.T) {
	p := replayable(strings.Repeat("x", upload.MaxReplay))
	first, _ := p.NewReader()
	if _, err := io.ReadFull(first, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	second, ok := p.NewReader()
	if !ok {
		t.Fatal("it can't be sent again")
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Errorf("the first reader returns %v", err)
	}
	if text, err := io.ReadAll(second); len(text) != upload.MaxReplay || err != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, ok := p.NewReader(); !ok {
		t.Error("a body that has been read whole can't be sent again")
	}
}

// A body that is larger than what is kept is read whole once.
func TestBodyThatIsNotKeptIsReadOnce(t *testing.T) {
	p := replayable(strings.Repeat("x", 3*upload.MaxReplay))
	r, _ := p.NewReader()
	if text, err := io.ReadAll(r); len(text) != 3*upload.MaxReplay || err != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, ok := p.NewReader(); ok {
		t.Error("it can be sent again")
	}
}

// heldBytes returns the heap memory in use after a complete collection, which empties pools, too.
func heldBytes() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestOpenStreamsHoldLittle holds many streams that have sent a little and have a response: nothing of them is sent again, so
// that no buffer may be kept for it.
func TestOpenStreamsHoldLittle(t *testing.T) {
	const streams, most = 2000, 4 << 10
	bodies := make([]*upload.Body, streams)
	before := heldBytes()
	for i := range bodies {
		source, client := io.Pipe()
		b := new(upload.Body)
		r := &http.Request{Body: source, ContentLength: -1}
		b.Init(upload.Config{Request: r, Writer: httptest.NewRecorder(), Start: time.Now(), MaxBytes: 1 << 20})
		b.RetainForReplay()
		reader, _ := b.NewReader()
		for range 2 { // before the response and after it
			go func() { _, _ = client.Write([]byte("x")) }()
			if n, err := reader.Read(make([]byte, 8)); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			b.StopRetaining()
		}
		bodies[i] = b
	}
	if held := (heldBytes() - before) / streams; held > most {
		t.Errorf("a stream holds %d bytes, want at most %d", held, most)
	}
	runtime.KeepAlive(bodies)
}
