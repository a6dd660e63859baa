package upload_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"cbproxy/internal/upload"
)

// slowBody returns one byte after each delay.
type slowBody struct{ delay time.Duration }

func (b slowBody) Read(p []byte) (int, error) {
	time.Sleep(b.delay)
	return copy(p, "x"), nil
}

// TestClientWaitNeverDecreases checks that a wait is counted while the read that has caused it ends.
func TestClientWaitNeverDecreases(t *testing.T) {
	const delay, reads = time.Millisecond, 200
	start := time.Now()
	r := &http.Request{Body: io.NopCloser(slowBody{delay}), ContentLength: -1}
	var b upload.Body
	b.Init(upload.Config{Request: r, Writer: httptest.NewRecorder(), Start: start, MaxBytes: 1 << 20})
	reader, _ := b.NewReader()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range reads {
			_, _ = reader.Read(make([]byte, 8))
		}
	}()
	for last := time.Duration(0); ; {
		waited := b.ClientWait(time.Since(start))
		if waited < last {
			t.Fatalf("a wait of %v after one of %v", waited, last)
		}
		last = waited
		select {
		case <-done:
			return
		default:
		}
	}
}
