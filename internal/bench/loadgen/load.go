package loadgen

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Load is a number of identical requests to one address.
type Load struct {
	Address     string
	Request     []byte // the bytes of a request
	Varied      []byte // part of Request that is replaced by a different number of the same length in each request; nil for none
	Requests    int
	Connections int
	Status      int // expected status; any other counts as an error
	Length      int // expected bytes of body; any other length counts as an error

	// WarmUp excludes the opening of connections from the measurement: each connection first sends one request that is not
	// counted. Then OnStart is called, and the measurement starts.
	WarmUp  bool
	OnStart func()
}

// Result is the outcome of a Load.
type Result struct {
	Took      time.Duration
	Errors    int
	LastError error
	Latencies []time.Duration // of the successful requests, sorted
}

// Run sends the requests over keep-alive connections. Each connection sends its next request when it has received the response
// to the previous one. The connections share one counter of requests, so that all of them are busy until the end. The error is
// that of ctx.
func (l *Load) Run(ctx context.Context) (Result, error) {
	remaining := new(atomic.Int64)
	remaining.Store(int64(l.Requests))
	connections := make([]connection, l.Connections)
	var done, opened sync.WaitGroup
	start := make(chan struct{})
	begin := time.Now()
	for i := range connections {
		w := &connections[i]
		*w = connection{Load: l, remaining: remaining, latencies: make([]time.Duration, 0, 2*l.Requests/l.Connections)}
		if l.WarmUp {
			opened.Add(1)
			w.opened = sync.OnceFunc(func() { opened.Done(); <-start })
		}
		done.Go(func() { w.run(ctx) })
	}
	if l.WarmUp {
		opened.Wait()
		l.OnStart()
		begin = time.Now()
	}
	close(start)
	done.Wait()

	r := Result{Took: time.Since(begin)}
	for _, w := range connections {
		r.Latencies = append(r.Latencies, w.latencies...)
		r.Errors += w.errors
		if w.lastError != nil {
			r.LastError = w.lastError
		}
	}
	slices.Sort(r.Latencies)
	return r, ctx.Err()
}

// Quantile returns the q-quantile of the latencies of successful requests.
func (r *Result) Quantile(q float64) time.Duration {
	if len(r.Latencies) == 0 {
		return 0
	}
	return r.Latencies[min(int(q*float64(len(r.Latencies))), len(r.Latencies)-1)]
}

// connection sends the share of a Load that goes over one connection.
type connection struct {
	*Load
	remaining *atomic.Int64
	opened    func() // called after the first response or failure; nil unless Load.WarmUp
	latencies []time.Duration
	errors    int
	lastError error
}

// run sends requests until none remain, and reconnects after errors.
func (c *connection) run(ctx context.Context) {
	if c.opened != nil {
		defer c.opened()
	}
	for c.remaining.Load() > 0 && ctx.Err() == nil {
		if err := c.sendAll(ctx); err != nil {
			c.errors++
			c.lastError = err
		}
	}
}

// ErrUnexpected reports a response that is not the expected one.
var ErrUnexpected = errors.New("unexpected response")

// sendAll opens a connection and sends requests until none remain, the connection ends or a response is not the expected one.
// A failed dial counts as a request, so that the load also ends if nothing listens at the address.
func (c *connection) sendAll(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", c.Address)
	if err != nil {
		if c.remaining.Add(-1) < 0 {
			return nil // another connection sent the last request
		}
		return err
	}
	defer func() { _ = conn.Close() }() // all responses have been read
	if t, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(t); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	r := bufio.NewReaderSize(conn, 8<<10)
	request, digits := c.copyRequest()
	for first := true; ; first = false {
		counted := !first || c.opened == nil
		n := int64(0)
		if counted {
			n = c.remaining.Add(-1)
		}
		if n < 0 {
			return nil
		}
		writeNumber(digits, n)
		begin := time.Now()
		if _, err := conn.Write(request); err != nil {
			return err
		}
		h, err := readHead(r)
		if err != nil {
			return err
		}
		if _, err := r.Discard(h.length); err != nil {
			return err
		}
		if h.status != c.Status || h.length != c.Length {
			return fmt.Errorf("%w: status %d with %d bytes, want status %d with %d bytes",
				ErrUnexpected, h.status, h.length, c.Status, c.Length)
		}
		if counted {
			c.latencies = append(c.latencies, time.Since(begin))
		} else {
			c.opened()
		}
		if h.close {
			return nil
		}
	}
}

// copyRequest returns a copy of the request, and the part of the copy that varies.
func (c *connection) copyRequest() (request, digits []byte) {
	request = bytes.Clone(c.Request)
	if len(c.Varied) == 0 {
		return request, nil
	}
	at := bytes.Index(request, c.Varied)
	return request, request[at : at+len(c.Varied)]
}

// writeNumber fills digits with the last digits of n.
func writeNumber(digits []byte, n int64) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = '0' + byte(n%10)
		n /= 10
	}
}
