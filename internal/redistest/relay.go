package redistest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Relay is a TCP relay before an address, with faults that can be changed while it runs.
type Relay struct {
	t               testing.TB
	address, target string
	work            sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil while cut
	links    map[*link]bool
	delay    time.Duration
	open     chan struct{} // closed, unless it's a black hole
	blackout bool
}

// link is one client's connection.
type link struct {
	client net.Conn
	ctx    context.Context
	cancel context.CancelFunc
}

// chunk is what a server said in one go; no bytes are its end.
type chunk struct {
	bytes []byte
	due   time.Time
}

// StartRelay starts a relay before the target, with no faults.
func StartRelay(t testing.TB, target string) *Relay {
	t.Helper()
	r := &Relay{t: t, target: target, links: map[*link]bool{}, open: make(chan struct{})}
	close(r.open)
	t.Cleanup(r.end)
	for deadline := time.Now().Add(patience); ; {
		r.address, _ = newAddress()
		err := r.listen()
		if err == nil {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		giveBack(r.address)
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

// Address returns the relay's host and port.
func (r *Relay) Address() string { return r.address }

// Delay lets all that the server says from now on arrive d later. It's as a longer way: it
// doesn't make less fit through.
func (r *Relay) Delay(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = d
}

// Blackhole accepts connections and passes nothing, on those that are there as well, not even
// an end. What came in the meantime arrives when it's turned off, as after a lost network.
func (r *Relay) Blackhole(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on == r.blackout {
		return
	}
	r.blackout = on
	if on {
		r.open = make(chan struct{})
		return
	}
	close(r.open)
}

// Cut closes every connection, and refuses new ones until Mend.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		_ = r.listener.Close()
		r.listener = nil
	}
	for k := range r.links {
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
	giveBack(r.address)
}

func (r *Relay) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r.join(l, c)
	}
}

// join takes a connection in, unless the relay was cut since it came.
func (r *Relay) join(l net.Listener, c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != l {
		_ = c.Close()
		return
	}
	k := &link{client: c}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	r.links[k] = true
	r.work.Go(func() {
		r.carry(k)
		r.leave(k)
	})
}

func (r *Relay) leave(k *link) {
	k.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.links, k)
}

func (k *link) close() {
	k.cancel()
	_ = k.client.Close()
}

// carry connects a client with the server until the server ends it. The server is asked only
// when bytes can pass: a refusal would be news out of a black hole.
func (r *Relay) carry(k *link) {
	if !r.pass(k.ctx) {
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

// forward passes what the client says to the server.
func (r *Relay) forward(k *link, server *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := k.client.Read(buffer)
		if !r.pass(k.ctx) {
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

// receive takes what the server says, and notes when it's due.
func (r *Relay) receive(k *link, server net.Conn, chunks chan<- chunk) {
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

func (r *Relay) send(k *link, chunks chan<- chunk, bytes []byte) bool {
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

// deliver passes what the server said to the client when it's due.
func (r *Relay) deliver(k *link, chunks <-chan chunk) {
	for c := range chunks {
		if !waitUntil(k.ctx, c.due) || !r.pass(k.ctx) || c.bytes == nil {
			return
		}
		if _, err := k.client.Write(c.bytes); err != nil {
			return
		}
	}
}

// pass waits until bytes can pass; false means that the connection is over. To ask after a
// read, not before it, is what holds all that was said since the black hole began.
func (r *Relay) pass(ctx context.Context) bool {
	r.mu.Lock()
	open := r.open
	r.mu.Unlock()
	select {
	case <-open:
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
