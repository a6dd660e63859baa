package redistest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Relay forwards TCP connections to an address, with network faults that can be changed while it runs. Mend must be called on
// the goroutine of the test. The other methods are safe for concurrent use.
type Relay struct {
	t               testing.TB
	address, target string
	work            sync.WaitGroup

	mu        sync.Mutex
	listener  net.Listener // nil while cut
	conns     map[*relayConn]bool
	delay     time.Duration
	passing   chan struct{} // closed while data passes
	blackhole bool
}

// relayConn is the connection of a client.
type relayConn struct {
	client net.Conn
	ctx    context.Context
	cancel context.CancelFunc
}

// chunk is the result of one read from the server. Without bytes it is the end of the stream.
type chunk struct {
	bytes []byte
	due   time.Time
}

// StartRelay starts a relay to the target, without faults.
func StartRelay(t testing.TB, target string) *Relay {
	t.Helper()
	r := &Relay{t: t, target: target, conns: map[*relayConn]bool{}, passing: make(chan struct{})}
	close(r.passing)
	t.Cleanup(r.end)
	for deadline := time.Now().Add(waitTimeout); ; {
		r.address, _ = newAddress()
		err := r.listen()
		if err == nil {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		releaseAddress(r.address)
	}
}

func (r *Relay) listen() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", r.address)
	if err != nil {
		return err
	}
	r.listener = l
	r.work.Go(func() { r.accept(l) })
	return nil
}

// Address returns the host and port of the relay.
func (r *Relay) Address() string { return r.address }

// Delay delays all data that the server sends from now on by d. It adds latency and does not reduce the throughput.
func (r *Relay) Delay(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = d
}

// Blackhole makes the relay accept connections but pass no data and no end of stream, also on existing connections. The data is delivered
// when it is turned off, as after a network outage.
func (r *Relay) Blackhole(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on == r.blackhole {
		return
	}
	r.blackhole = on
	if on {
		r.passing = make(chan struct{})
		return
	}
	close(r.passing)
}

// Cut closes every connection, and refuses new ones until Mend.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		_ = r.listener.Close()
		r.listener = nil
	}
	for k := range r.conns {
		k.close()
	}
}

// Mend accepts connections again after Cut.
func (r *Relay) Mend() {
	r.t.Helper()
	eventually(r.t, "the relay listens again at "+r.address, func() bool { return r.listen() == nil })
}

func (r *Relay) end() {
	r.Cut()
	r.work.Wait()
	releaseAddress(r.address)
}

func (r *Relay) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r.register(l, c)
	}
}

// register starts to serve a connection, unless the relay was cut since it was accepted.
func (r *Relay) register(l net.Listener, c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != l {
		_ = c.Close()
		return
	}
	k := &relayConn{client: c}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	r.conns[k] = true
	r.work.Go(func() {
		r.serve(k)
		r.unregister(k)
	})
}

func (r *Relay) unregister(k *relayConn) {
	k.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, k)
}

func (k *relayConn) close() {
	k.cancel()
	_ = k.client.Close()
}

// serve connects a client to the server until the server ends the connection. It dials only while data passes, because a black hole must
// not reveal that the server refuses connections.
func (r *Relay) serve(k *relayConn) {
	if !r.waitPassing(k.ctx) {
		return
	}
	server, err := new(net.Dialer).DialContext(k.ctx, "tcp", r.target)
	if err != nil {
		return
	}
	defer context.AfterFunc(k.ctx, func() { _ = server.Close() })()
	defer server.Close()
	chunks := make(chan chunk, 1024)
	var pumps sync.WaitGroup
	pumps.Go(func() { r.forward(k, server.(*net.TCPConn)) })
	pumps.Go(func() { r.receive(k, server, chunks) })
	r.deliver(k, chunks)
	k.close()
	_ = server.Close()
	pumps.Wait()
}

// forward passes the data of the client to the server.
func (r *Relay) forward(k *relayConn, server *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := k.client.Read(buffer)
		if !r.waitPassing(k.ctx) {
			return
		}
		if n > 0 {
			if _, failed := server.Write(buffer[:n]); failed != nil {
				return
			}
		}
		if err != nil {
			_ = server.CloseWrite()
			return
		}
	}
}

// receive reads the data of the server and records when it is due.
func (r *Relay) receive(k *relayConn, server net.Conn, chunks chan<- chunk) {
	defer close(chunks)
	for {
		buffer := make([]byte, 32<<10)
		n, err := server.Read(buffer)
		if n > 0 && !r.send(k, chunks, buffer[:n]) {
			return
		}
		if err != nil {
			r.send(k, chunks, nil)
			return
		}
	}
}

func (r *Relay) send(k *relayConn, chunks chan<- chunk, bytes []byte) bool {
	r.mu.Lock()
	due := time.Now().Add(r.delay)
	r.mu.Unlock()
	select {
	case chunks <- chunk{bytes: bytes, due: due}:
		return true
	case <-k.ctx.Done():
		return false
	}
}

// deliver passes the data of the server to the client when it is due.
func (r *Relay) deliver(k *relayConn, chunks <-chan chunk) {
	for c := range chunks {
		if !waitUntil(k.ctx, c.due) || !r.waitPassing(k.ctx) || c.bytes == nil {
			return
		}
		if _, err := k.client.Write(c.bytes); err != nil {
			return
		}
	}
}

// waitPassing waits until data may pass. It returns false if the connection has ended. It is called after a read, so that all data that
// arrives in a black hole is held back.
func (r *Relay) waitPassing(ctx context.Context) bool {
	r.mu.Lock()
	passing := r.passing
	r.mu.Unlock()
	select {
	case <-passing:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func waitUntil(ctx context.Context, due time.Time) bool {
	d := time.Until(due)
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
