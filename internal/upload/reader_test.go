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

// replayable returns a request body that is retained for a replay.
func replayable(body string) *upload.Body {
	b := new(upload.Body)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	b.Init(upload.Config{Request: r, Writer: httptest.NewRecorder(), Start: time.Now(), MaxBytes: 1 << 20})
	b.RetainForReplay()
	return b
}

// If http.Transport can't send a request on an HTTP/2 connection, it closes the body and then reads it on another connection.
func TestUnreadBodyCanBeReadAfterClose(t *testing.T) {
	p := replayable("hello")
	r, _ := p.NewReader()
	_ = r.Close()
	if text, err := io.ReadAll(r); string(text) != "hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// A partly read body is read from the start by the next reader. The previous reader returns errors.
func TestNextReaderReadsFromTheStart(t *testing.T) {
	p := replayable(strings.Repeat("x", upload.MaxReplay))
	first, _ := p.NewReader()
	if _, err := io.ReadFull(first, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	second, ok := p.NewReader()
	if !ok {
		t.Fatal("no second reader")
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Errorf("the first reader returns %v", err)
	}
	if text, err := io.ReadAll(second); len(text) != upload.MaxReplay || err != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, ok := p.NewReader(); !ok {
		t.Error("no reader after the whole body was read")
	}
}

// A body larger than MaxReplay can be read completely, but only once.
func TestBodyAboveMaxReplayIsReadOnce(t *testing.T) {
	p := replayable(strings.Repeat("x", 3*upload.MaxReplay))
	r, _ := p.NewReader()
	if text, err := io.ReadAll(r); len(text) != 3*upload.MaxReplay || err != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, ok := p.NewReader(); ok {
		t.Error("a body above MaxReplay has a second reader")
	}
}

// heldBytes returns the heap memory in use after garbage collections that also empty each sync.Pool.
func heldBytes() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// An open stream that has a response is not replayed any more, so that it must not retain a buffer.
func TestOpenStreamsRetainNoBuffer(t *testing.T) {
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
		for range 2 { // once before the response and once after it
			go func() { _, _ = client.Write([]byte("x")) }()
			if n, err := reader.Read(make([]byte, 8)); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			b.StopRetaining()
		}
		bodies[i] = b
	}
	if held := (heldBytes() - before) / streams; held > most {
		t.Errorf("%d bytes per stream, want at most %d", held, most)
	}
	runtime.KeepAlive(bodies)
}
