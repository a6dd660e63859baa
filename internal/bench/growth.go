package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"cbproxy/internal/bench/loadgen"
	"cbproxy/internal/bench/process"
)

// Targets of the scenario growth.
const (
	growthTarget  = 1.20 // of the CPU time per request with few services or connections
	streamsMemory = 512  // MB
)

const (
	fewServices, manyServices       = 5, 1000
	fewConnections, manyConnections = 64, 4096
	requestsEach                    = 20 // minimum per connection, so that opening and closing it matters little
	slowStreams                     = 10_000

	slowSuffix = "/slow"     // paths with this suffix get a stream with long pauses
	slowPause  = time.Second // between the events of such a stream
)

// growth measures the cost of more services, connections and streams.
func (b *bench) growth(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := scenario{Name: "growth", About: "cbproxy with more services, connections and streams, and the cost of connections in other proxies"}
	origin, _, err := b.startUpstream(ctx, process.AllCores)
	if err != nil {
		return s, err
	}
	defer origin.Close()
	var all []*process.Process
	defer func() { closeAll(all) }()
	for _, services := range []int{fewServices, manyServices} {
		p, err := b.startCBProxy(ctx, setting{name: fmt.Sprintf("%d services", services), target: origin.Address, services: services - 1})
		if err != nil {
			return s, err
		}
		all = append(all, p)
	}
	one := loadgen.Load{Request: request(path, b.body), Requests: b.requests, Connections: fewConnections, WarmUp: true, Status: http.StatusOK, Length: responseBytes}
	f, err := b.measure(ctx, all, one)
	if err != nil {
		return s, err
	}
	s.Contenders = f
	s.compare(f[1].Name, f[0].Name, growthTarget)
	all[0].Name = "cbproxy"
	compared := all[:1]
	for _, startOne := range b.reference() {
		p, err := startOne(ctx, origin.Address)
		if err != nil {
			return s, err
		}
		all, compared = append(all, p), append(compared[:len(compared):len(compared)], p)
	}
	if err := b.growConnections(ctx, &s, compared, one); err != nil {
		return s, err
	}
	return s, b.growStreams(ctx, &s, origin.Address)
}

// reference returns the proxies that cbproxy is compared with when there are many connections.
func (b *bench) reference() []func(context.Context, string) (*process.Process, error) {
	if b.haproxy {
		return []func(context.Context, string) (*process.Process, error){b.startBare, b.startHAProxy}
	}
	return []func(context.Context, string) (*process.Process, error){b.startBare}
}

// growConnections compares the CPU time per request with few and with many connections, in alternating rounds.
func (b *bench) growConnections(ctx context.Context, s *scenario, contenders []*process.Process, l loadgen.Load) error {
	counts := []int{fewConnections, manyConnections}
	for _, p := range contenders {
		all := make([][]sample, len(counts))
		for round := range b.rounds + 1 {
			for i, n := range counts {
				one := l
				one.Address, one.Connections, one.Requests = p.Address, n, max(l.Requests, requestsEach*n)
				figure, err := b.sample(ctx, p, one)
				if err != nil {
					return err
				}
				if round > 0 {
					all[i] = append(all[i], figure)
				}
			}
		}
		names := make([]string, len(counts))
		for i, n := range counts {
			names[i] = fmt.Sprintf("%s, %d connections", p.Name, n)
			s.Contenders = append(s.Contenders, summarize(names[i], all[i]))
		}
		target := growthTarget
		if p != contenders[0] {
			target = 0
		}
		s.compare(names[1], names[0], target)
	}
	return nil
}

// growStreams measures the memory of a fresh cbproxy with idle connections, and then with slow streams.
func (b *bench) growStreams(ctx context.Context, s *scenario, target string) error {
	streams := slowStreams
	if limit := process.RaiseFileLimit(4 * slowStreams); limit < 2*streams+1000 { // a proxy has two connections per stream
		streams = (limit - 1000) / 2
		s.About += fmt.Sprintf("; the limit of %d open files allows %d streams", limit, streams)
	}
	p, err := b.startCBProxy(ctx, setting{name: "slow streams", target: target})
	if err != nil {
		return err
	}
	defer p.Close()
	before, err := process.ReadMemory(p.Cmd.Process.Pid)
	if err != nil {
		return err
	}
	idle, err := openConnections(ctx, p.Address, manyConnections, "/rag/idle")
	defer idle.close()
	if err != nil {
		return fmt.Errorf("%w%s", err, p.Output())
	}
	after, err := process.ReadMemory(p.Cmd.Process.Pid)
	if err != nil {
		return err
	}
	idle.close()
	busy, err := openConnections(ctx, p.Address, streams, "/rag"+slowSuffix)
	defer busy.close()
	if err == nil {
		err = busy.readEvents(2)
	}
	if err != nil {
		return fmt.Errorf("%w%s", err, p.Output())
	}
	full, err := process.ReadMemory(p.Cmd.Process.Pid)
	if err != nil {
		return err
	}
	s.Goals = append(s.Goals,
		goal{Name: fmt.Sprintf("KB per idle connection, of %d, after one request each", manyConnections), Figure: (after.RSS - before.RSS) * 1000 / manyConnections},
		goal{Name: fmt.Sprintf("MB with %d slow streams, at most", streams), Figure: full.Peak, Target: streamsMemory})
	return nil
}

// openWorkers is the number of goroutines that open connections.
const openWorkers = 32

// openConnections opens n connections and requests path on each. It returns those that were opened even if there is an error.
func openConnections(ctx context.Context, address string, n int, path string) (opened conns, err error) {
	opened = make(conns, n)
	var running sync.WaitGroup
	failures := make([]error, openWorkers)
	for o := range openWorkers {
		running.Go(func() {
			for i := o; i < n && failures[o] == nil; i += openWorkers {
				opened[i], failures[o] = open(ctx, address, path)
			}
		})
	}
	running.Wait()
	return opened, errors.Join(failures...)
}

// conns are open connections with the unread parts of their responses.
type conns []*openConn

// openConn is an open connection with the unread part of its response.
type openConn struct {
	net.Conn
	body *bufio.Reader
}

// open requests path, and reads the response's body if its length is known.
func open(ctx context.Context, address, path string) (*openConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	o := &openConn{Conn: c}
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return o, err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return o, err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(c, 1<<10), nil)
	if err != nil {
		return o, err
	}
	if res.StatusCode != http.StatusOK {
		return o, fmt.Errorf("%w: status %d", loadgen.ErrUnexpected, res.StatusCode)
	}
	o.body = bufio.NewReaderSize(res.Body, 64)
	if res.ContentLength >= 0 {
		_, err = io.Copy(io.Discard, o.body)
	}
	return o, err
}

// readEvents reads n more events on each connection.
func (c conns) readEvents(n int) error {
	for _, o := range c {
		for range n {
			for { // an event ends with an empty line
				line, err := o.body.ReadString('\n')
				if err != nil {
					return fmt.Errorf("read an event: %w", err)
				}
				if line == "\n" {
					break
				}
			}
		}
	}
	return nil
}

func (c conns) close() {
	for _, o := range c {
		if o != nil {
			_ = o.Close() // all wanted data has been read
		}
	}
}

// serveSlowStream sends an event per slowPause until the client disconnects.
func serveSlowStream(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	for {
		_, err := io.WriteString(w, "data: x\n\n")
		if err != nil || control.Flush() != nil {
			return
		}
		time.Sleep(slowPause)
	}
}
