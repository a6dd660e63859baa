package store

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A connection returns one reply per read, and no data of or after a reply that exceeds a limit.
func TestConnectionFailsAtReplyBeyondLimits(t *testing.T) {
	for _, size := range []int{1, 9, 64} {
		c := &replyConn{Conn: &scripted{reply: bytes.NewReader([]byte("+OK\r\n:12\r\n*1000000000\r\n+OK\r\n")), size: size}, scanner: *newScanner()}
		if _, err := c.Write([]byte(strings.Repeat("*1\r\n$4\r\nping\r\n", 4))); err != nil {
			t.Fatal(err)
		}
		var got []byte
		var err error
		for p := make([]byte, 64); err == nil; {
			var n int
			n, err = c.Read(p)
			if got = append(got, p[:n]...); bytes.Count(p[:n], []byte("\r\n")) > 1 {
				t.Errorf("one read returned %q", p[:n])
			}
		}
		if text := string(got); !strings.HasPrefix(text, "+OK\r\n:12\r\n") || strings.Contains(text, "*1000000000\r\n") || !strings.Contains(err.Error(), "1000000000 elements") {
			t.Errorf("%q, %v", got, err)
		}
		if n, again := c.Read(make([]byte, 64)); n > 0 || again != err {
			t.Errorf("%d, %v", n, again)
		}
	}
}

// Data that arrives before a command is not the reply to it.
func TestConnectionFailsAtUnexpectedData(t *testing.T) {
	const subscribe = "*2\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n"
	for name, stream := range map[string]string{"whole reply": "+OK\r\n*0\r\n", "partial reply": "+OK\r\n*3\r\n", "reply that continues": "*1\r\n"} {
		c := &replyConn{Conn: &scripted{reply: bytes.NewReader([]byte(stream)), size: 64}, scanner: *newScanner()}
		if _, err := c.Write([]byte("*1\r\n$5\r\nhello\r\n")); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 64)); n > 5 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if _, err := c.Write([]byte(subscribe)); !errors.Is(err, errUnexpectedData) {
			t.Errorf("%s: %v", name, err)
		}
		if n, err := c.Read(make([]byte, 64)); n > 0 || !errors.Is(err, errUnexpectedData) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	c := &replyConn{Conn: &scripted{reply: bytes.NewReader([]byte("+OK\r\n")), size: 64}, scanner: *newScanner()}
	if n, err := c.Read(make([]byte, 64)); n > 0 || !errors.Is(err, errUnexpectedData) {
		t.Errorf("%d, %v", n, err)
	}
}

// Only the beginning of a command identifies it. A value that is written separately may look like a command.
func TestValuesAreNotTakenForCommands(t *testing.T) {
	const value = "*2\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n"
	c := &replyConn{Conn: &scripted{reply: bytes.NewReader([]byte("*0\r\n*0\r\n")), size: 64}, scanner: *newScanner()}
	for _, part := range []string{"*2\r\n$3\r\nset\r\n$" + strconv.Itoa(len(value)) + "\r\n", value, "\r\n", "*1\r\n$4", "\r\n", "ping", "\r\n"} {
		if _, err := c.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := io.ReadAll(c); len(got) != 8 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// The client library panics if a message or the address of a master has another form.
func TestRepliesMustHaveTheFormOfTheirCommand(t *testing.T) {
	const hello = "*2\r\n$5\r\nhello\r\n$1\r\n3\r\n"
	const subscribe, masterAddress = "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nx\r\n", "*3\r\n$8\r\nsentinel\r\n$23\r\nget-master-addr-by-name\r\n$1\r\nm\r\n"
	for command, replies := range map[string]struct{ good, bad []string }{
		subscribe: {
			good: []string{
				"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n", ">3\r\n+subscribe\r\n+x\r\n:1\r\n", "*3\r\n+unsubscribe\r\n$-1\r\n:0\r\n",
				"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$4\r\n\r\n\r\n\r\n", "*4\r\n+pmessage\r\n+a*\r\n+ab\r\n$0\r\n\r\n", "*2\r\n+pong\r\n$0\r\n\r\n", "+PONG\r\n", "-ERR no\r\n", "*-1\r\n",
				"*3\r\n+message\r\n+x\r\n+m\r\n", "*3\r\n+message\r\n+\x2bswitch-master\r\n+m 10.0.0.1 1 10.0.0.2 2\r\n",
			},
			bad: []string{
				"*0\r\n", "*1\r\n:1\r\n", "*1\r\n$-1\r\n", "*1\r\n+subscribe\r\n", "*3\r\n+subscribe\r\n+x\r\n+1\r\n", "*2\r\n+message\r\n+x\r\n", "*3\r\n+message\r\n$-1\r\n+m\r\n",
				"*3\r\n+message\r\n+x\r\n*1\r\n:1\r\n", "*4\r\n+pmessage\r\n+a\r\n+b\r\n:1\r\n", "*2\r\n+pong\r\n:1\r\n", "*1\r\n+pong\r\n", "~0\r\n", ">0\r\n", "*1\r\n*0\r\n", "*3\r\n-message\r\n+x\r\n+m\r\n",
				"*3\r\n+message\r\n$14\r\n+switch-master\r\n+m 10.0.0.1 1 10.0.0.2\r\n", "|1\r\n+a\r\n+b\r\n*0\r\n", "*1\r\n+other\r\n",
			},
		},
		hello: {
			good: []string{"-ERR unknown command\r\n", "*4\r\n+proto\r\n:2\r\n+modules\r\n*0\r\n", "%1\r\n+modules\r\n*1\r\n%1\r\n+name\r\n+x\r\n", "_\r\n"},
			bad:  []string{"*2\r\n$-1\r\n*0\r\n", "%1\r\n-\r\n*0\r\n", "%1\r\n_\r\n*0\r\n", "*2\r\n!1\r\na\r\n*0\r\n", "*1\r\n*-1\r\n"},
		},
		masterAddress: {
			good: []string{"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n", "*-1\r\n", "-ERR no\r\n"},
			bad:  []string{"*0\r\n", "*1\r\n+a\r\n", "*3\r\n+a\r\n+b\r\n+c\r\n", "~1\r\n+a\r\n"},
		},
	} {
		read := func(stream string, size int) error {
			c := &replyConn{Conn: &scripted{reply: bytes.NewReader([]byte(stream)), size: size}, scanner: *newScanner()}
			if _, err := c.Write([]byte(command)); err != nil {
				t.Fatal(err)
			}
			_, err := io.ReadAll(c)
			return err
		}
		for _, size := range []int{1, 512} {
			copies := 1
			if command == subscribe {
				copies = 2 // messages arrive without a command
			}
			for _, r := range replies.good {
				if err := read(strings.Repeat(r, copies), size); err != nil {
					t.Errorf("%q in pieces of %d: %v", r, size, err)
				}
			}
			for _, r := range replies.bad {
				if err := read(r, size); !errors.Is(err, errSchema) {
					t.Errorf("%q in pieces of %d: %v", r, size, err)
				}
			}
		}
	}
}

// scripted is a connection whose peer sends a fixed stream and closes it.
type scripted struct {
	reply *bytes.Reader
	size  int
}

func (s *scripted) Read(p []byte) (int, error)       { return s.reply.Read(p[:min(len(p), s.size)]) }
func (s *scripted) Write(p []byte) (int, error)      { return len(p), nil }
func (s *scripted) Close() error                     { s.reply.Reset(nil); return nil }
func (s *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *scripted) SetDeadline(time.Time) error      { return nil }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }
