package soak

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// readSlowly reads a long response in pieces, with pauses that may exceed the proxy's write timeout. The
// content must be correct, and a truncated response must not look complete.
func (c *client) readSlowly() {
	req := c.newRequest("media", http.MethodGet)
	req.responseLines, req.mayTruncate = 10_000, true
	req.target = "/big?pad=10000"
	c.stream(req, "", func(res *http.Response) error {
		const linesPerPiece = 500
		line := responseLine(fmt.Sprint(req.id), req.target, req.tenant, 0)
		want := []byte(strings.Repeat(line, linesPerPiece))
		got := make([]byte, len(want))
		pauseAt := c.IntN(200)
		for n := range req.responseLines / linesPerPiece {
			if _, err := io.ReadFull(res.Body, got); err != nil {
				if err == io.EOF {
					return fmt.Errorf("the response ends as if complete after %d pieces", n)
				}
				return nil // a detectable truncation
			}
			if !bytes.Equal(got, want) {
				return fmt.Errorf("piece %d is %.100q", n, got)
			}
			if time.Sleep(c.randomDuration(20 * time.Millisecond)); n == pauseAt {
				time.Sleep(1500 * time.Millisecond)
			}
		}
		return nil
	})
	c.pause(100 * time.Millisecond)
}

// readEvents reads server-sent events and sometimes disconnects early.
func (c *client) readEvents() {
	req := c.newRequest("media", http.MethodGet)
	n := 5 + c.IntN(60)
	req.target = fmt.Sprintf("/events?n=%d", n)
	disconnectAt := -1
	if c.IntN(4) == 0 {
		disconnectAt = c.IntN(n)
	}
	c.stream(req, "text/event-stream", func(res *http.Response) error {
		lines := bufio.NewScanner(res.Body)
		next := 0
		for lines.Scan() {
			switch line := lines.Text(); {
			case line == "":
			case line == "event: end" && next == n:
				return nil
			case line != fmt.Sprintf("data: %d %d", req.id, next):
				return fmt.Errorf("event %d of %d is %q", next, n, line)
			case next == disconnectAt:
				return nil
			default:
				next++
			}
		}
		if lines.Err() == nil {
			return fmt.Errorf("the response ends as if complete after %d events of %d", next, n)
		}
		return nil // a detectable truncation
	})
	c.pause(100 * time.Millisecond)
}

// stream sends a GET request and calls check with a successful response, whose body has not been read.
func (c *client) stream(req *request, contentType string, check func(*http.Response) error) {
	c.s.requests.add(req)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.p.URL+req.route.prefix+req.target, nil)
	if err != nil {
		c.s.reportf("test error", "%v: %v", req, err)
		return
	}
	r.Header.Set(idField, fmt.Sprint(req.id))
	r.Header.Set("Authorization", req.tenant)
	transitions, start := c.p.transitions.Load(), time.Now()
	res, err := c.http1.Do(r)
	req.instanceDown = !c.p.upSince(transitions)
	req.disconnected = true // the response may be truncated, and then the client does not know how the proxy counts it
	if err != nil {
		if !req.instanceDown {
			c.s.reportf("no response", "%v: %v", req, err)
		}
		c.s.counts.addUnknown(req)
		return
	}
	defer res.Body.Close()
	c.checkElapsed(req, time.Since(start))
	if res.StatusCode != http.StatusOK || contentType != "" && res.Header.Get("Content-Type") != contentType {
		body, err := io.ReadAll(res.Body)
		if err == nil {
			c.checkResponse(req, res, string(body), 0)
		}
		return
	}
	err = req.checkBreakerFields(res.Header)
	if err == nil {
		err = check(res)
	}
	if err != nil && c.p.upSince(transitions) {
		c.s.reportf("invalid response", "%v: %v", req, err)
	}
	c.s.counts.add(req, outcomeUnknown, "stream", 0)
}

// callGRPC makes a gRPC call with one message.
func (c *client) callGRPC() {
	req := c.newRequest("calls", http.MethodPost)
	req.target = "/Call"
	c.s.requests.add(req)
	message := fmt.Appendf([]byte{0, 0, 0, 0, 16}, "%016d", req.id) // not compressed, 16 bytes
	req.bodySum = crc32.ChecksumIEEE(message)
	r, err := http.NewRequest(http.MethodPost, c.p.URL+"/soak.Echo/Call", bytes.NewReader(message))
	if err != nil {
		c.s.reportf("test error", "%v: %v", req, err)
		return
	}
	r.GetBody = nil // disables automatic retries by net/http, which the client cannot count
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, idField: {fmt.Sprint(req.id)}}
	transitions, start := c.p.transitions.Load(), time.Now()
	res, err := c.http2.Do(r)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
	}
	req.instanceDown = !c.p.upSince(transitions)
	switch {
	case req.instanceDown:
		c.s.counts.addUnknown(req)
	case res == nil && err != nil && strings.Contains(err.Error(), "stream error"):
		c.s.counts.add(req, outcomeUnknown, "gRPC, reset", 0) // before the header section was sent
	case res == nil:
		c.s.reportf("no response", "%v: %v", req, err)
	case time.Since(start) > req.route.timeout+timeoutSlack:
		c.s.reportf("timeout exceeded", "%v took %v", req, time.Since(start))
	default:
		if err := req.validateGRPC(res, body, err, message); err != nil {
			c.s.reportf("invalid response", "%v: %v; status %d, %v, %v", req, err, res.StatusCode, res.Header, res.Trailer)
		}
		c.s.counts.add(req, outcomeUnknown, "gRPC "+res.Header.Get("Grpc-Status")+res.Trailer.Get("Grpc-Status"), 0)
	}
	c.pause(60 * time.Millisecond)
}

// validateGRPC checks the response to a call. readError is the error of reading its body.
func (req *request) validateGRPC(res *http.Response, body []byte, readError error, message []byte) error {
	if err := req.checkBreakerFields(res.Header); err != nil {
		return err
	}
	req.status = res.StatusCode
	status := res.Header.Get("Grpc-Status") + res.Trailer.Get("Grpc-Status")
	switch {
	case readError != nil:
		return nil // a detectable truncation
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d is not a gRPC response", res.StatusCode)
	case status == "0":
		if !bytes.Equal(body, message) || res.Header.Get(idField) != fmt.Sprint(req.id) {
			return fmt.Errorf("received %q, want the message sent, %q", body, message)
		}
	case !slices.Contains([]string{"4", "13", "14"}, status):
		return fmt.Errorf("grpc-status %q", status)
	}
	return nil
}

// upgrade upgrades a connection and checks that the upstream echoes what it sends.
func (c *client) upgrade() {
	req := c.newRequest("media", http.MethodGet)
	c.s.requests.add(req)
	defer c.pause(100 * time.Millisecond)
	transitions := c.p.transitions.Load()
	req.disconnected = true
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.p.URL, "http://"))
	if err != nil {
		if c.p.upSince(transitions) {
			c.s.reportf("no response", "%v: %v", req, err)
		}
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(timeoutSlack + req.route.timeout))
	fmt.Fprintf(conn, "GET /media/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s: %d\r\n\r\n", idField, req.id)
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	c.s.counts.addUnknown(req)
	if err != nil {
		if c.p.upSince(transitions) {
			c.s.reportf("no response", "%v: %v", req, err)
		}
		return
	}
	if err := req.checkBreakerFields(res.Header); err != nil {
		c.s.reportf("invalid response", "%v: %v", req, err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	for n := range c.IntN(40) {
		sent := fmt.Sprintf("%d sends %06d", req.id, n)
		received := make([]byte, len(sent))
		if _, err := io.WriteString(conn, sent); err != nil {
			return
		}
		if _, err := io.ReadFull(r, received); err != nil {
			return // the upstream or the proxy is down
		}
		if string(received) != sent {
			c.s.reportf("invalid response", "%v: sent %q, received %q", req, sent, received)
			return
		}
		time.Sleep(c.randomDuration(20 * time.Millisecond))
	}
	c.s.counts.add(req, outcomeUnknown, "upgrade", 0)
}
