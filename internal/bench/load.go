package main

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

// load is traffic of one kind for one address.
type load struct {
	address     string
	request     []byte // sent as it is, over and over
	varied      []byte // stands in request, once, and is replaced by a number of as many digits, another for each; nil: nothing is
	requests    int
	connections int
	status      int // expected; anything else is an error
	length      int // bytes of body expected; anything else is an error

	// settled is for a load whose connections are not measured as they are opened: each is answered once before
	// anything counts, and then begin is called.
	settled bool
	begin   func()
}

// result is what a load found.
type result struct {
	took      time.Duration
	errors    int
	lastError error
	latencies []time.Duration // of the requests that went well, sorted
}

// run sends the requests over kept-alive connections, each sending its next
// request when it has its answer. The requests are shared by all connections,
// so that all of them are busy until the end.
func (l *load) run(ctx context.Context) (result, error) {
	left := new(atomic.Int64)
	left.Store(int64(l.requests))
	workers := make([]worker, l.connections)
	var done, opened sync.WaitGroup
	start := make(chan struct{})
	begin := time.Now()
	for i := range workers {
		w := &workers[i]
		*w = worker{load: l, left: left, latencies: make([]time.Duration, 0, 2*l.requests/l.connections)}
		if l.settled {
			opened.Add(1)
			w.opened = sync.OnceFunc(func() { opened.Done(); <-start })
		}
		done.Go(func() { w.run(ctx) })
	}
	if l.settled {
		opened.Wait()
		l.begin()
		begin = time.Now()
	}
	close(start)
	done.Wait()

	r := result{took: time.Since(begin)}
	for _, w := range workers {
		r.latencies = append(r.latencies, w.latencies...)
		r.errors += w.errors
		if w.lastError != nil {
			r.lastError = w.lastError
		}
	}
	slices.Sort(r.latencies)
	return r, ctx.Err()
}

// quantile returns the latency below which the share q of the requests stayed.
func (r *result) quantile(q float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(int(q*float64(len(r.latencies))), len(r.latencies)-1)]
}

// worker is one connection's share of a load.
type worker struct {
	*load
	left      *atomic.Int64
	opened    func() // is called when the connection has been answered once, or can't be; nil: need not
	latencies []time.Duration
	errors    int
	lastError error
}

func (w *worker) run(ctx context.Context) {
	if w.opened != nil {
		defer w.opened()
	}
	for w.left.Load() > 0 && ctx.Err() == nil {
		if err := w.converse(ctx); err != nil {
			w.errors++
			w.lastError = err
		}
	}
}

// errUnexpected ends a conversation whose answers aren't the expected ones.
var errUnexpected = errors.New("unexpected answer")

// converse opens a connection and sends requests until none is left, the
// connection ends or an answer is wrong. A dial that fails uses up a request,
// so that a dead address ends the load as well.
func (w *worker) converse(ctx context.Context) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", w.address)
	if err != nil {
		if w.left.Add(-1) < 0 {
			return nil // another connection had the last request
		}
		return err
	}
	defer func() { _ = c.Close() }() // everything wanted has been read
	if t, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(t); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()

	r := bufio.NewReaderSize(c, 8<<10)
	request, digits := w.own()
	for first := true; ; first = false {
		counted := !first || w.opened == nil
		n := int64(0)
		if counted {
			n = w.left.Add(-1)
		}
		if n < 0 {
			return nil
		}
		write(digits, n)
		begin := time.Now()
		if _, err := c.Write(request); err != nil {
			return err
		}
		h, err := readHead(r)
		if err != nil {
			return err
		}
		if _, err := r.Discard(h.length); err != nil {
			return err
		}
		if h.status != w.status || h.length != w.length {
			return fmt.Errorf("%w: status %d with %d bytes, want status %d with %d bytes",
				errUnexpected, h.status, h.length, w.status, w.length)
		}
		if counted {
			w.latencies = append(w.latencies, time.Since(begin))
		} else {
			w.opened()
		}
		if h.close {
			return nil
		}
	}
}

// own returns the worker's copy of the request, and the part of it that varies.
func (w *worker) own() (request, digits []byte) {
	request = bytes.Clone(w.request)
	if len(w.varied) == 0 {
		return request, nil
	}
	at := bytes.Index(request, w.varied)
	return request, request[at : at+len(w.varied)]
}

// write fills digits with the last ones of n.
func write(digits []byte, n int64) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = '0' + byte(n%10)
		n /= 10
	}
}
