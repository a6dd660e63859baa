package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/idna"
)

const (
	dialTimeout               = 10 * time.Second       // for the lookup and all addresses
	maxConnectionAttemptDelay = 250 * time.Millisecond // before the next address is tried in parallel (RFC 8305, section 5)
)

// connectError is an error of a dialer, or of the TLS handshake on a new connection.
type connectError struct{ Err error }

// NewConnectError returns err as an error of a request for which there is no connection, see Classify.
func NewConnectError(err error) error { return &connectError{err} }

func (e *connectError) Error() string { return e.Err.Error() }
func (e *connectError) Unwrap() error { return e.Err }

// ContextKey is the type of the keys of a request's context that control how its connection is established.
type ContextKey int

const (
	// DialDeadline is the key of a time.Time. A dialer divides the time until then among the addresses of a name. It is needed
	// because http.Transport dials with a context that lacks the request's deadline.
	DialDeadline ContextKey = iota
	// ConnectDeadline is the key of a time.Time, by which the connection must be established: another endpoint can be tried then. The zero
	// time is none.
	ConnectDeadline
	// HTTP1Only is the key of a bool. If it is true, a new connection does not use HTTP/2, which has no upgrades.
	HTTP1Only
)

// dialDeadline returns the deadline of a request that dials.
func dialDeadline(ctx context.Context) (time.Time, bool) {
	if t, ok := ctx.Value(DialDeadline).(time.Time); ok {
		return t, true
	}
	return ctx.Deadline()
}

// connectDeadline returns the time until which a connection must be established.
func connectDeadline(ctx context.Context) time.Time {
	latest := time.Now().Add(dialTimeout)
	if t, ok := ctx.Value(ConnectDeadline).(time.Time); ok && !t.IsZero() && t.Before(latest) {
		return t
	}
	return latest
}

// dialer opens TCP connections. It tries the addresses of a name as RFC 8305 describes: the next connection attempt starts when
// the previous one has failed, or early enough that each address is tried before the request's deadline. The zero dialer is ready
// to use.
type dialer struct {
	// Lookup returns the addresses of a name. If it is nil, the system's resolver is used.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// HTTP2 makes a connection fail within about 15 s after its peer has become unreachable, as all requests share it. TCP
	// detects that, because servers limit the number of HTTP/2 PING frames that they accept.
	HTTP2 bool
}

// dial connects to address, which is host:port. It returns a *connectError, or the error of ctx if ctx is done.
func (d *dialer) dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := d.dialHost(ctx, address)
	if err != nil && ctx.Err() == nil {
		err = &connectError{err}
	}
	return c, err
}

func (d *dialer) dialHost(ctx context.Context, address string) (net.Conn, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	latest := connectDeadline(ctx)
	deadline, ok := dialDeadline(ctx)
	if !ok || deadline.After(latest) {
		deadline = latest
	}
	ctx, cancel := context.WithDeadline(ctx, latest)
	defer cancel()
	if _, err := netip.ParseAddr(host); err == nil {
		return d.connect(ctx, address)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil, err
	}
	addresses, err := d.lookup(ctx, host)
	if err != nil {
		return nil, lookupError(err)
	}
	return d.race(ctx, interleave(addresses), strconv.Itoa(port), deadline)
}

func (d *dialer) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if d.Lookup != nil {
		return d.Lookup(ctx, host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// Lookup returns the IPv4 and IPv6 addresses of a host name by the system's resolver. Its error is classified by Classify.
func Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ascii, err := idna.Lookup.ToASCII(host); err == nil { // otherwise the lookup fails
		host = ascii
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, &connectError{lookupError(err)}
	}
	return addresses, nil
}

// lookupError returns the error of a failed lookup. If no file descriptor is available, that is the cause and is added to the
// error: the resolver then cannot read its configuration and queries servers that do not exist.
func lookupError(err error) error {
	f, shortage := os.Open(os.DevNull)
	if shortage == nil {
		_ = f.Close() // nothing was written
		return err
	}
	if _, ok := localError(shortage); ok {
		return fmt.Errorf("%w: %w", err, shortage)
	}
	return err
}

// interleave returns addresses with alternating families, starting with the family of the first one (RFC 8305, section 4).
func interleave(addresses []netip.Addr) []netip.Addr {
	var families [2][]netip.Addr
	for _, a := range addresses {
		a = a.Unmap()
		i := 0
		if a.Is4() != addresses[0].Unmap().Is4() {
			i = 1
		}
		families[i] = append(families[i], a)
	}
	mixed := make([]netip.Addr, 0, len(addresses))
	for len(families[0])+len(families[1]) > 0 {
		for i := range families {
			if len(families[i]) > 0 {
				mixed = append(mixed, families[i][0])
				families[i] = families[i][1:]
			}
		}
	}
	return mixed
}

// dialResult is the result of one connection attempt.
type dialResult struct {
	conn net.Conn
	err  error
}

// race connects to the addresses in order. It starts the next connection attempt when the previous one has failed, or after a
// delay: maxConnectionAttemptDelay, or less if the time until deadline requires it. It returns the first connection and closes
// connections that are established later.
func (d *dialer) race(ctx context.Context, addresses []netip.Addr, port string, deadline time.Time) (net.Conn, error) {
	if len(addresses) == 0 {
		return nil, errors.New("the host name has no address")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan dialResult, len(addresses)) // buffered, so that a connection attempt that ends late does not block
	delay := min(maxConnectionAttemptDelay, max(time.Until(deadline)/time.Duration(2*len(addresses)), time.Millisecond))
	next := time.NewTimer(0)
	defer next.Stop()
	var dialErr error
	for started, pending := 0, 0; started < len(addresses) || pending > 0; {
		begin := next.C
		if started == len(addresses) {
			begin = nil
		}
		select {
		case <-begin:
			address := net.JoinHostPort(addresses[started].String(), port)
			started, pending = started+1, pending+1
			go func() {
				c, err := d.connect(ctx, address)
				results <- dialResult{c, err}
			}()
			next.Reset(delay)
		case r := <-results:
			pending--
			if r.err == nil {
				go closeLate(results, pending)
				return r.conn, nil
			}
			dialErr = preferredError(dialErr, r.err)
			next.Reset(0)
		}
	}
	return nil, dialErr
}

// closeLate closes the connections of n attempts that finish after the first successful one.
func closeLate(results <-chan dialResult, n int) {
	for range n {
		if r := <-results; r.err == nil {
			_ = r.conn.Close() // nothing was sent
		}
	}
}

// preferredError returns which of two errors to report: an error of the upstream takes precedence over a missing local
// resource, such as a local address of a family; otherwise the first one does.
func preferredError(first, second error) error {
	if first == nil {
		return second
	}
	if _, ok := localError(first); !ok {
		return first
	}
	if _, ok := localError(second); ok {
		return first
	}
	return second
}

// keepAlive makes TCP detect within 25 s that the peer of an idle connection is unreachable.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

func (d *dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil && d.HTTP2 {
		setTCPUserTimeout(c)
	}
	return c, err
}
