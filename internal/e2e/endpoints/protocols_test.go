package endpoints

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// callGRPC makes a gRPC call through service svc over h2c, and returns its status.
func callGRPC(p *harness.Proxy, client *http.Client) string {
	p.T.Helper()
	r, err := http.NewRequest("POST", p.URL+"/svc/echo.Echo/Echo", strings.NewReader("\x00\x00\x00\x00\x02hi"))
	if err != nil {
		p.T.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	res, err := client.Do(r)
	if err != nil {
		p.T.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		p.T.Fatal(err)
	}
	if status := res.Header.Get("Grpc-Status"); status != "" {
		return status // a trailers-only response
	}
	return res.Trailer.Get("Grpc-Status")
}

// Of gRPC servers, the one that answers UNAVAILABLE is ejected.
func TestGRPCServerIsEjected(t *testing.T) {
	t.Parallel()
	servers, list := startServers(t, 3)
	for i, s := range servers {
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 {
				t.Errorf("%s got a request of %s", s.name, r.Proto)
			}
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/grpc")
			if i == 1 {
				w.Header().Set("Grpc-Status", "14")
				return
			}
			w.Header().Set("Trailer", "Grpc-Status")
			_, _ = io.WriteString(w, "\x00\x00\x00\x00\x02hi")
			w.Header().Set("Grpc-Status", "0")
		})
	}
	p := start(t, strings.ReplaceAll(list, "http:", "h2c:"), "balance: {policy: round_robin}")
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	statuses := map[string]int{}
	for range 60 {
		statuses[callGRPC(p, &http.Client{Transport: transport})]++
	}
	if statuses["0"] != 55 || statuses["14"] != 5 {
		t.Errorf("statuses: %v", statuses)
	}
	if s := statusOf(p); s.states() != "in ejected in" || s.State != "closed" {
		t.Errorf("%+v", s)
	}
}

// A WebSocket is tunnelled to one of the endpoints, and stays when that endpoint is removed. New ones do not go to a dead endpoint.
func TestWebSocketsOfSeveralEndpoints(t *testing.T) {
	t.Parallel()
	servers, _ := startServers(t, 3)
	for _, s := range servers {
		s.handler = http.HandlerFunc(harness.EchoUpgradedConnection)
	}
	p := start(t, "["+servers[0].url()+", "+servers[1].url()+"]", "balance: {policy: round_robin}")
	open := func() (c net.Conn, echo func() bool) {
		c, r := p.Dial()
		_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if head := harness.ReadHead(t, r); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
			_ = c.Close()
			return nil, nil
		}
		return c, func() bool {
			got := make([]byte, 4)
			_, _ = io.WriteString(c, "ping")
			_, err := io.ReadFull(r, got)
			return err == nil && string(got) == "ping"
		}
	}
	var tunnels []func() bool
	for range 4 {
		c, echo := open()
		if c == nil {
			t.Fatal("no tunnel")
		}
		defer c.Close()
		tunnels = append(tunnels, echo)
	}
	if got := fmt.Sprint(callsOf(servers)); got != "[2 2 0]" {
		t.Errorf("tunnels of the endpoints: %s", got)
	}
	reload(p, config("["+servers[1].url()+", "+servers[2].url()+"]", "balance: {policy: round_robin, eject: {fail_max: 2}}"))
	for i, echo := range tunnels {
		if !echo() {
			t.Errorf("tunnel %d has ended", i)
		}
	}
	servers[2].kill()
	refused := 0
	for range 20 {
		if c, echo := open(); c == nil {
			refused++
		} else if !echo() {
			t.Error("a new tunnel does not work")
		} else {
			defer c.Close()
		}
	}
	if s := statusOf(p); refused != 2 || s.states() != "in ejected" {
		t.Errorf("%d of 20 tunnels were refused: %+v", refused, s)
	}
}

// An endpoint whose event streams are cut is ejected, although each of them has begun well.
func TestEndpointThatCutsStreamsIsEjected(t *testing.T) {
	t.Parallel()
	servers, list := startServers(t, 2)
	for i, s := range servers {
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: a\n\n")
			_ = http.NewResponseController(w).Flush()
			if i == 1 {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "data: b\n\n")
		})
	}
	p := start(t, list, "balance: {policy: round_robin}")
	cut := 0
	for range 40 {
		res, err := http.Get(p.URL + "/svc")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		switch {
		case err != nil && strings.HasPrefix(string(body), "data: a\n\n"):
			cut++
		case string(body) != "data: a\n\ndata: b\n\n":
			t.Fatalf("%q, %v", body, err)
		}
	}
	if s := statusOf(p); cut != 5 || s.states() != "in ejected" {
		t.Errorf("%d streams were cut: %+v", cut, s)
	}
}
