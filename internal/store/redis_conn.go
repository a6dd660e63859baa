package store

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// dialer connects to a Redis server.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// limitReplies returns a dialer whose connections fail at the first reply that exceeds a limit, before the client library reads its
// header. The library has no limits of its own.
func limitReplies(timeout time.Duration, tlsConfig *tls.Config, limit func() int64) dialer {
	dial := redis.NewDialer(&redis.Options{DialTimeout: timeout, TLSConfig: tlsConfig})
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		connection, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		limited := &replyConn{Conn: connection, scanner: replyScanner{limit: limit}}
		if raw, ok := connection.(syscall.Conn); ok {
			return replySocket{limited, raw}, nil
		}
		return limited, nil
	}
}

// replyConn is a connection to a Redis server that limits replies. One goroutine at a time may read.
type replyConn struct {
	net.Conn
	scanner replyScanner
	err     error        // why it was closed
	rest    []byte       // read from Conn after the end of a reply, and not yet by the client
	schema  atomic.Int32 // the replySchema of the last command
	written commandCounter
	pending atomic.Int64 // commands without a reply
}

// Read implements net.Conn. It returns at most one reply, so that the client does not buffer a reply whose schema is not known yet. It
// closes the connection at a reply that exceeds a limit.
func (c *replyConn) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	var err error
	if n == 0 {
		n, err = c.Conn.Read(p)
	}
	c.scanner.schema = replySchema(c.schema.Load())
	if n > 0 && c.scanner.schema != messageSchema && c.pending.Load() == 0 {
		return 0, c.fail(errUnexpectedData)
	}
	read, scanErr := c.scanner.scan(p[:n])
	if scanErr != nil {
		return 0, c.fail(scanErr)
	}
	if c.scanner.replyComplete {
		c.pending.Add(-1) // a push message counts, too, because none is requested
	}
	if read < n {
		c.rest, err = append(bytes.Clone(p[read:n]), c.rest...), nil // Conn returns the error again
	}
	return read, err
}

var errUnexpectedData = errors.New("Redis sent data without a command")

// Write implements net.Conn. The client writes a command after it has read the replies to the previous ones, and writes a command whose
// reply has a special schema (HELLO, SUBSCRIBE, SENTINEL) in a Write of its own; this code relies on that. Only messages of channels
// arrive at any time.
func (c *replyConn) Write(p []byte) (int, error) {
	schema := replySchema(c.schema.Load())
	if schema != messageSchema {
		if len(c.rest) > 0 || c.scanner.insideReply() {
			return 0, c.fail(errUnexpectedData)
		}
		if c.written.atCommandStart() {
			c.schema.Store(int32(schemaFor(p, schema)))
		}
		c.pending.Add(c.written.add(p))
	}
	return c.Conn.Write(p)
}

// commandCounter counts commands, which are arrays of strings, in data that is written in pieces.
type commandCounter struct {
	kind    byte  // of the line that is being written; 0 after its end
	n       int64 // the number in it so far
	strings int64 // remaining strings of the command
	payload int64 // remaining bytes of a string, with its line end
}

// atCommandStart reports whether the next byte begins a command.
func (c *commandCounter) atCommandStart() bool {
	return c.kind == 0 && c.strings == 0 && c.payload == 0
}

// add returns the number of commands that begin in p.
func (c *commandCounter) add(p []byte) (commands int64) {
	for len(p) > 0 {
		if c.payload > 0 {
			n := min(c.payload, int64(len(p)))
			c.payload, p = c.payload-n, p[n:]
			continue
		}
		switch b := p[0]; {
		case b == '*' || b == '$':
			c.kind, c.n = b, 0
		case b >= '0' && b <= '9':
			c.n = 10*c.n + int64(b-'0')
		case b == '\n' && c.kind == '*':
			c.kind, c.strings = 0, c.n
			commands++
		case b == '\n':
			c.kind, c.payload = 0, c.n+2
			c.strings--
		}
		p = p[1:]
	}
	return commands
}

func (c *replyConn) fail(err error) error {
	c.err = err
	_ = c.Close()
	return err
}

// replySocket is a replyConn that also exposes the socket (syscall.Conn), so that go-redis can check before it reuses an idle connection
// whether the server has closed it or sent unexpected data. TLS connections have no such check. go-redis does not see data that replyConn
// has read already, but then the next Write fails.
type replySocket struct {
	*replyConn
	socket syscall.Conn
}

// SyscallConn implements syscall.Conn.
func (c replySocket) SyscallConn() (syscall.RawConn, error) { return c.socket.SyscallConn() }
