package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// listen returns a listener and its port.
func listen(t testing.TB, host string) (l net.Listener, port int) {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}

// dropPackets makes a port of host drop connection requests, as a firewall does, by filling the port's backlog. It skips the test
// if the system has no such limit.
func dropPackets(t testing.TB, host string, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	a := &syscall.SockaddrInet4{Port: port, Addr: netip.MustParseAddr(host).As4()}
	if err := errors.Join(syscall.Bind(fd, a), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(port)), 200*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Skip("the backlog of this system does not fill")
}

// lookup returns a lookup function that returns the given addresses.
func lookup(hosts ...string) func(context.Context, string) ([]netip.Addr, error) {
	return func(context.Context, string) (addresses []netip.Addr, err error) {
		for _, h := range hosts {
			addresses = append(addresses, netip.MustParseAddr(h))
		}
		return addresses, nil
	}
}

// The dial reaches a working address before its deadline if the addresses before it fail or do not respond.
func TestDialTriesTheNextAddressInTime(t *testing.T) {
	_, port := listen(t, "127.0.0.1")
	dropPackets(t, "127.0.0.2", port)
	for name, hosts := range map[string][]string{
		"first drops packets": {"127.0.0.2", "127.0.0.1"},
		"first refuses":       {"127.0.0.3", "127.0.0.1"},
		"first not reachable": {"::1", "127.0.0.1"},
		"two drop packets":    {"127.0.0.2", "127.0.0.2", "127.0.0.1"},
		"first works":         {"127.0.0.1", "127.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			d := dialer{Lookup: lookup(hosts...)}
			ctx := context.WithValue(t.Context(), DialDeadline, time.Now().Add(time.Second))
			c, err := d.dial(ctx, net.JoinHostPort("name", strconv.Itoa(port)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if host, _, _ := net.SplitHostPort(c.RemoteAddr().String()); host != "127.0.0.1" {
				t.Errorf("connected to %s", host)
			}
		})
	}
}

// A dial that must be established early, for a retry, tries each address before that.
func TestDialTriesTheNextAddressBeforeTheConnectDeadline(t *testing.T) {
	_, port := listen(t, "127.0.0.1")
	dropPackets(t, "127.0.0.2", port)
	d := dialer{Lookup: lookup("127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.1")}
	ctx := context.WithValue(t.Context(), DialDeadline, time.Now().Add(time.Minute))
	ctx = context.WithValue(ctx, ConnectDeadline, time.Now().Add(900*time.Millisecond)) // less than four maxConnectionAttemptDelay
	c, err := d.dial(ctx, net.JoinHostPort("name", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// A dial fails at its connect deadline, long before the request's.
func TestDialFailsAtTheConnectDeadline(t *testing.T) {
	_, port := listen(t, "127.0.0.1")
	dropPackets(t, "127.0.0.2", port)
	for _, address := range []string{"name", "127.0.0.2"} {
		d := dialer{Lookup: lookup("127.0.0.2")}
		ctx := context.WithValue(t.Context(), DialDeadline, time.Now().Add(time.Minute))
		ctx = context.WithValue(ctx, ConnectDeadline, time.Now().Add(100*time.Millisecond))
		_, err := d.dial(ctx, net.JoinHostPort(address, strconv.Itoa(port)))
		var failed *connectError
		if got := Classify(err, NotConnected); !errors.As(err, &failed) || got.Failure != events.ErrorConnect {
			t.Errorf("%s: %v, %+v", address, err, got)
		}
	}
}

// A dial ends with its context while it waits for an address.
func TestDialEndsWithItsContext(t *testing.T) {
	_, port := listen(t, "127.0.0.1")
	dropPackets(t, "127.0.0.2", port)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	d := dialer{Lookup: lookup("127.0.0.2", "127.0.0.2")}
	if c, err := d.dial(ctx, net.JoinHostPort("name", strconv.Itoa(port))); err == nil {
		_ = c.Close()
		t.Error("connected")
	}
}

// The error of an upstream that refuses the connection is preferred to that of an address that this machine can't use.
func TestDialPrefersErrorsOfTheUpstream(t *testing.T) {
	unusable, refused := os.NewSyscallError("connect", syscall.EADDRNOTAVAIL), os.NewSyscallError("connect", syscall.ECONNREFUSED)
	for _, errs := range [][2]error{{unusable, refused}, {refused, unusable}} {
		if err := preferredError(errs[0], errs[1]); err != refused {
			t.Errorf("%v is reported for %v", err, errs)
		}
	}
}

// A dial fails with a connectError. It tries IPv6 and IPv4 addresses in turn.
func TestDialAlternatesFamilies(t *testing.T) {
	var order []string
	d := dialer{Lookup: lookup("::1", "::1", "127.0.0.1")}
	_, err := d.dial(t.Context(), "name:1")
	var dial *connectError
	if !errors.As(err, &dial) {
		t.Errorf("%v is not a connectError", err)
	}
	for _, a := range interleave([]netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("::2"), netip.MustParseAddr("127.0.0.1")}) {
		order = append(order, a.String())
	}
	if want := []string{"::1", "127.0.0.1", "::2"}; !slices.Equal(order, want) {
		t.Errorf("the order is %v, want %v", order, want)
	}
}

func TestClassify(t *testing.T) {
	system := func(call string, errno syscall.Errno) error {
		return &net.OpError{Op: call, Net: "tcp", Err: os.NewSyscallError(call, errno)}
	}
	for name, c := range map[string]struct {
		err      error
		progress Progress
		want     ErrorClass
	}{
		"no descriptor to connect": {&connectError{Err: system("socket", syscall.EMFILE)}, NotConnected, ErrorClass{Local: events.LocalDescriptors}},
		"no descriptor, system":    {system("socket", syscall.ENFILE), NotConnected, ErrorClass{Local: events.LocalDescriptors}},
		"no descriptor to look up": {&net.DNSError{Err: "dial udp: socket: too many open files", Name: "rag"}, NotConnected, ErrorClass{Local: events.LocalDescriptors}},
		"no port":                  {system("connect", syscall.EADDRNOTAVAIL), NotConnected, ErrorClass{Local: events.LocalPorts}},
		"no buffer to write":       {system("write", syscall.ENOBUFS), Connected, ErrorClass{Local: events.LocalBuffers}},
		"no memory to read":        {system("read", syscall.ENOMEM), Responded, ErrorClass{Local: events.LocalMemory}},
		"refused":                  {&connectError{Err: system("connect", syscall.ECONNREFUSED)}, NotConnected, ErrorClass{Failure: events.ErrorConnect}},
		"no such host":             {&net.DNSError{Err: "no such host", Name: "rag", IsNotFound: true}, NotConnected, ErrorClass{Failure: events.ErrorConnect}},
		"reset":                    {system("read", syscall.ECONNRESET), Connected, ErrorClass{Failure: events.ErrorReset}},
		"invalid field":            {errors.New(`net/http: invalid trailer field name "X(T"`), NotConnected, ErrorClass{RequestProblem: 400}},
		"too large for the peer":   {errors.New("http2: request header list larger than peer's advertised limit"), Connected, ErrorClass{RequestProblem: 431}},
		"upgrade over HTTP/2":      {errors.New(`http2: invalid Upgrade request header: ["websocket"]`), Connected, ErrorClass{RequestProblem: 502}},
		"HTTP_1_1_REQUIRED":        {errors.New("stream error: stream ID 1; HTTP_1_1_REQUIRED; received from peer"), Connected, ErrorClass{RequestProblem: 502}},
		"ENHANCE_YOUR_CALM":        {errors.New("stream error: stream ID 1; ENHANCE_YOUR_CALM; received from peer"), Connected, ErrorClass{RequestProblem: 431}},
		"stream error":             {errors.New("stream error: stream ID 1; INTERNAL_ERROR; received from peer"), Connected, ErrorClass{Failure: events.ErrorReset}},
		"malformed response":       {errors.New("malformed HTTP response"), Connected, ErrorClass{Failure: events.ErrorProtocol}},
	} {
		if got := Classify(fmt.Errorf("round trip: %w", c.err), c.progress); name != "invalid field" && name != "upgrade over HTTP/2" && got != c.want {
			t.Errorf("%s, wrapped: %+v, want %+v", name, got, c.want)
		}
		if got := Classify(c.err, c.progress); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
