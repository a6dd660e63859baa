package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"cbproxy/internal/bench/loadgen"
)

const (
	streamSuffix    = "/stream"            // paths with this suffix get a stream of events
	streamEvents    = 50                   // per stream
	streamPause     = 2 * time.Millisecond // between events
	streamsPerRound = 20
)

// serveStream sends server-sent events, each with the time at which it was sent.
func serveStream(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	for range streamEvents {
		_, err := fmt.Fprintf(w, "data: %d\n\n", time.Now().UnixNano())
		if err != nil || control.Flush() != nil {
			return // the client has disconnected
		}
		time.Sleep(streamPause)
	}
}

// delay is the latency of events from the upstream to the client, in microseconds.
type delay struct {
	Name     string  `json:"name"`
	FirstP50 float64 `json:"first_p50_us"` // of each stream's first event
	FirstP99 float64 `json:"first_p99_us"`
	LaterP50 float64 `json:"later_p50_us"` // of all events after the first
	LaterP99 float64 `json:"later_p99_us"`
}

// stream measures the latency of a stream's events from the upstream to the client, which shows how long a proxy
// buffers them.
func (b *bench) stream(ctx context.Context) (scenario, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	_, contenders, err := b.startProxies(ctx)
	defer closeAll(contenders)
	if err != nil {
		return scenario{}, err
	}
	first, later := make([][]time.Duration, len(contenders)), make([][]time.Duration, len(contenders))
	for range b.rounds * streamsPerRound {
		for i, p := range contenders {
			delays, err := readStream(ctx, p.Address)
			if err != nil {
				return scenario{}, fmt.Errorf("%s: %w%s", p.Name, err, p.Output())
			}
			first[i] = append(first[i], delays[0])
			later[i] = append(later[i], delays[1:]...)
		}
	}
	s := scenario{
		Name:  "stream",
		About: fmt.Sprintf("latency of server-sent events, %d streams of %d events, through each proxy and directly", b.rounds*streamsPerRound, streamEvents),
	}
	for i, p := range contenders {
		slices.Sort(first[i])
		slices.Sort(later[i])
		f, l := loadgen.Result{Latencies: first[i]}, loadgen.Result{Latencies: later[i]}
		s.Delays = append(s.Delays, delay{
			Name: p.Name, FirstP50: micros(f.Quantile(0.50)), FirstP99: micros(f.Quantile(0.99)),
			LaterP50: micros(l.Quantile(0.50)), LaterP99: micros(l.Quantile(0.99)),
		})
	}
	return s, nil
}

// readStream requests one stream from address and returns the latency of each event.
func readStream(ctx context.Context, address string) ([]time.Duration, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // all needed data has been read
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "GET /rag%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", streamSuffix); err != nil {
		return nil, err
	}
	delays := make([]time.Duration, 0, streamEvents)
	r := bufio.NewReader(c)
	for len(delays) < streamEvents {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("after %d events: %w", len(delays), err)
		}
		text, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		sent, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("event %q: %w", line, err)
		}
		delays = append(delays, time.Duration(time.Now().UnixNano()-sent))
	}
	return delays, nil
}
