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
	q := c.question("media", http.MethodGet)
	q.lines, q.cuttable = 10_000, true
	q.target = "/big?pad=10000"
	c.stream(q, "", func(res *http.Response) error {
		line := soakLine(fmt.Sprint(q.id), q.target, q.tenant, 0)
		piece := []byte(strings.Repeat(line, 500))
		got := make([]byte, len(piece))
		stopAt := c.IntN(200)
		for n := range q.lines / 500 {
			if _, err := io.ReadFull(res.Body, got); err != nil {
				if err == io.EOF {
					return fmt.Errorf("a clean end after %d pieces", n)
				}
				return nil // a cut
			}
			if !bytes.Equal(got, piece) {
				return fmt.Errorf("piece %d is %.100q", n, got)
			}
			if time.Sleep(c.N(20 * time.Millisecond)); n == stopAt {
				time.Sleep(1500 * time.Millisecond)
			}
		}
		return nil
	})
	c.pause(100 * time.Millisecond)
}

// follow reads server-sent events and sometimes disconnects early.
func (c *client) follow() {
	q := c.question("media", http.MethodGet)
	n := 5 + c.IntN(60)
	q.target = fmt.Sprintf("/events?n=%d", n)
	leaves := -1
	if c.IntN(4) == 0 {
		leaves = c.IntN(n)
	}
	c.stream(q, "text/event-stream", func(res *http.Response) error {
		lines := bufio.NewScanner(res.Body)
		next := 0
		for lines.Scan() {
			switch line := lines.Text(); {
			case line == "":
			case line == "event: end" && next == n:
				return nil
			case line != fmt.Sprintf("data: %d %d", q.id, next):
				return fmt.Errorf("event %d of %d is %q", next, n, line)
			case next == leaves:
				return nil
			default:
				next++
			}
		}
		if lines.Err() == nil {
			return fmt.Errorf("a clean end after %d events of %d", next, n)
		}
		return nil // a cut
	})
	c.pause(100 * time.Millisecond)
}

// stream asks for something that is looked at while it comes, if it does.
func (c *client) stream(q *question, contentType string, look func(*http.Response) error) {
	c.s.ledger.ask(q)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.p.URL+q.route.prefix+q.target, nil)
	if err != nil {
		c.s.complain("the soak", "%v: %v", q, err)
		return
	}
	r.Header.Set(soakID, fmt.Sprint(q.id))
	r.Header.Set("Authorization", q.tenant)
	downs, start := c.p.downs.Load(), time.Now()
	res, err := c.http1.Do(r)
	q.disturbed, q.left = !c.p.upSince(downs), true // it may be cut, and then what the proxy counts is unknown
	if err != nil {
		if !q.disturbed {
			c.s.complain("no answer", "%v: %v", q, err)
		}
		c.s.tally.uncertain(q)
		return
	}
	defer res.Body.Close()
	if waited := time.Since(start); waited > q.route.timeout+hangs && !q.disturbed {
		c.s.complain("hung", "%v took %v", q, waited)
	}
	if res.StatusCode != http.StatusOK || contentType != "" && res.Header.Get("Content-Type") != contentType {
		text, err := io.ReadAll(res.Body)
		if err == nil {
			c.judge(q, res, string(text), 0)
		}
		return
	}
	err = q.checkSignallingFields(res.Header)
	if err == nil {
		err = look(res)
	}
	if err != nil && c.p.upSince(downs) {
		c.s.complain("out of order", "%v: %v", q, err)
	}
	c.s.tally.count(q, "", "stream", 0)
}

// callGRPC calls with one message.
func (c *client) callGRPC() {
	q := c.question("calls", http.MethodPost)
	q.target = "/Call"
	c.s.ledger.ask(q)
	message := fmt.Appendf([]byte{0, 0, 0, 0, 16}, "%016d", q.id) // not compressed, 16 bytes
	q.sum = crc32.ChecksumIEEE(message)
	r, err := http.NewRequest(http.MethodPost, c.p.URL+"/soak.Echo/Call", bytes.NewReader(message))
	if err != nil {
		c.s.complain("the soak", "%v: %v", q, err)
		return
	}
	r.GetBody = nil
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, soakID: {fmt.Sprint(q.id)}}
	downs, start := c.p.downs.Load(), time.Now()
	res, err := c.http2.Do(r)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
	}
	q.disturbed = !c.p.upSince(downs)
	switch {
	case q.disturbed:
		c.s.tally.uncertain(q)
	case res == nil && err != nil && strings.Contains(err.Error(), "stream error"):
		c.s.tally.count(q, "", "gRPC, cut", 0) // before its head was flushed
	case res == nil:
		c.s.complain("no answer", "%v: %v", q, err)
	case time.Since(start) > q.route.timeout+hangs:
		c.s.complain("hung", "%v took %v", q, time.Since(start))
	default:
		if err := q.checkGRPC(res, text, err, message); err != nil {
			c.s.complain("out of order", "%v: %v; status %d, %v, %v", q, err, res.StatusCode, res.Header, res.Trailer)
		}
		c.s.tally.count(q, "", "gRPC "+res.Header.Get("Grpc-Status")+res.Trailer.Get("Grpc-Status"), 0)
	}
	c.pause(60 * time.Millisecond)
}

func (q *question) checkGRPC(res *http.Response, got []byte, err error, sent []byte) error {
	if err := q.checkSignallingFields(res.Header); err != nil {
		return err
	}
	q.status = res.StatusCode
	status := res.Header.Get("Grpc-Status") + res.Trailer.Get("Grpc-Status")
	switch {
	case err != nil:
		return nil // a cut, which is none of a clean end
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("no gRPC")
	case status == "0":
		if !bytes.Equal(got, sent) || res.Header.Get(soakID) != fmt.Sprint(q.id) {
			return fmt.Errorf("said %q, heard %q", sent, got)
		}
	case !slices.Contains([]string{"4", "13", "14"}, status):
		return fmt.Errorf("grpc-status %q", status)
	}
	return nil
}

// raw opens a connection, sends the given bytes and returns the response.
func (c *client) raw(q *question, request string, half bool) (res *http.Response, body string, err error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.p.URL, "http://"))
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hangs + q.route.timeout))
	if _, err := io.WriteString(conn, request); err != nil {
		return nil, "", err
	}
	if half {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	res, err = http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, "", err
	}
	text, err := io.ReadAll(res.Body)
	return res, string(text), err
}

// talk speaks over a connection that was switched to another protocol.
func (c *client) talk() {
	q := c.question("media", http.MethodGet)
	c.s.ledger.ask(q)
	defer c.pause(100 * time.Millisecond)
	downs := c.p.downs.Load()
	q.left = true
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.p.URL, "http://"))
	if err != nil {
		if c.p.upSince(downs) {
			c.s.complain("no answer", "%v: %v", q, err)
		}
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hangs + q.route.timeout))
	fmt.Fprintf(conn, "GET /media/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s: %d\r\n\r\n", soakID, q.id)
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	c.s.tally.uncertain(q)
	if err != nil {
		if c.p.upSince(downs) {
			c.s.complain("no answer", "%v: %v", q, err)
		}
		return
	}
	if err := q.checkSignallingFields(res.Header); err != nil {
		c.s.complain("out of order", "%v: %v", q, err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	for n := range c.IntN(40) {
		said := fmt.Sprintf("%d says %06d", q.id, n)
		heard := make([]byte, len(said))
		if _, err := io.WriteString(conn, said); err != nil {
			return
		}
		if _, err := io.ReadFull(r, heard); err != nil {
			return // the upstream or the proxy is down
		}
		if string(heard) != said {
			c.s.complain("out of order", "%v: said %q, heard %q", q, said, heard)
			return
		}
		time.Sleep(c.N(20 * time.Millisecond))
	}
	c.s.tally.count(q, "", "socket", 0)
}
