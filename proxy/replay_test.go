package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// replayOf returns the replay of a client's body.
func replayOf(body string) *replay {
	x := &exchange{began: time.Now(), r: new(http.Request)}
	x.upload = requestBody{x: x, body: io.NopCloser(strings.NewReader(body)), limit: 1 << 20}
	return &replay{body: &x.upload}
}

// http.Transport closes the body of a request that it could not send on a connection of HTTP/2, and then sends the request
// with that body on another one.
func TestBodyThatIsClosedUnreadCanBeRead(t *testing.T) {
	p := replayOf("hello")
	r, _ := p.nextReader()
	_ = r.Close()
	if text, err := io.ReadAll(r); string(text) != "hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// A body that was read in part is read from the start by the next request, and no longer by the one before.
func TestNextReaderReadsFromTheStart(t *testing.T) {
	p := replayOf(strings.Repeat("x", maxReplayed))
	first, _ := p.nextReader()
	if _, err := io.ReadFull(first, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	second, ok := p.nextReader()
	if !ok {
		t.Fatal("it can't be sent again")
	}
	if _, err := first.Read(make([]byte, 1)); err != errSuperseded {
		t.Errorf("the first reader returns %v", err)
	}
	if text, err := io.ReadAll(second); len(text) != maxReplayed || err != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, ok := p.nextReader(); !ok {
		t.Error("a body that has been read whole can't be sent again")
	}
}

// A body that is larger than what is kept is read whole once.
func TestBodyThatIsNotKeptIsReadOnce(t *testing.T) {
	p := replayOf(strings.Repeat("x", 3*maxReplayed))
	r, _ := p.nextReader()
	if text, err := io.ReadAll(r); len(text) != 3*maxReplayed || err != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, ok := p.nextReader(); ok {
		t.Error("it can be sent again")
	}
}
