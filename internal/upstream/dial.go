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
)

const (
	dialTimeout  = 10 * time.Second       // for the lookup and all addresses
	attemptDelay = 250 * time.Millisecond // before the next address is tried beside the last one: RFC 8305, section 5
)

// DialError is an error of a Dialer, or of what is negotiated on a new connection.
type DialError struct{ Err error }

func (e *DialError) Error() string { return e.Err.Error() }
func (e *DialError) Unwrap() error { return e.Err }

// ContextKey is the type of the keys under which a request's context says how its connection is made.
type ContextKey int

const (
	// DialDeadline is the key of a time.Time: a Dialer gives each address of a name its share of the time until then.
	// http.Transport dials under a context without the deadline of the request's.
	DialDeadline ContextKey = iota
	// HTTP1Only is the key of a bool: a new connection is not to speak HTTP/2, which has no upgrades.
	HTTP1Only
)

func dialDeadline(ctx context.Context) (time.Time, bool) {
	if t, ok := ctx.Value(DialDeadline).(time.Time); ok {
		return t, true
	}
	return ctx.Deadline()
}

// Dialer opens TCP connections. It tries the addresses of a name by RFC 8305: the next attempt begins when the last one has
// failed, or has taken so long that the remaining ones would not start before the request's deadline. The zero Dialer is ready to use.
type Dialer struct {
	// Lookup returns the addresses of a name; nil is the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// HTTP2 makes a connection end within some 15 s when its peer is gone without a sign, as all requests share it. TCP
	// detects that: servers limit the PING frames of HTTP/2 that they accept.
	HTTP2 bool
}

// Dial connects to address, host:port. An error is a *DialError, or that of ctx.
func (d *Dialer) Dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := d.dial(ctx, address)
	if err != nil && ctx.Err() == nil {
		err = &DialError{err}
	}
	return c, err
}

func (d *Dialer) dial(ctx context.Context, address string) (net.Conn, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	deadline, ok := dialDeadline(ctx)
	if latest := time.Now().Add(dialTimeout); !ok || deadline.After(latest) {
		deadline = latest
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
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

func (d *Dialer) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if d.Lookup != nil {
		return d.Lookup(ctx, host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// lookupError returns why there was no descriptor for a lookup, if there is none: the resolver then can't read its own
// configuration and asks servers that do not exist.
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

// interleave returns addresses with the families in turn, that of the first one first (RFC 8305, section 4).
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

type dialled struct {
	conn net.Conn
	err  error
}

// race tries addresses one after the other, each at the latest a share of the time until deadline after the last one.
// It returns the first connection; connections established later are closed.
func (d *Dialer) race(ctx context.Context, addresses []netip.Addr, port string, deadline time.Time) (net.Conn, error) {
	if len(addresses) == 0 {
		return nil, errors.New("the name has no address")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan dialled, len(addresses)) // buffered, so that a late attempt does not block
	delay := min(attemptDelay, max(time.Until(deadline)/time.Duration(2*len(addresses)), time.Millisecond))
	next := time.NewTimer(0)
	defer next.Stop()
	var failed error
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
				results <- dialled{c, err}
			}()
			next.Reset(delay)
		case r := <-results:
			pending--
			if r.err == nil {
				go closeLate(results, pending)
				return r.conn, nil
			}
			failed = worse(failed, r.err)
			next.Reset(0)
		}
	}
	return nil, failed
}

// closeLate closes the connections of n attempts that finish after the first successful one.
func closeLate(results <-chan dialled, n int) {
	for range n {
		if r := <-results; r.err == nil {
			_ = r.conn.Close() // nothing was sent
		}
	}
}

// worse returns the error to report of two: an error of the upstream takes precedence over a shortage of
// this machine, such as a missing local address of a family; otherwise the earlier error does.
func worse(first, second error) error {
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

// keepAlive detects within 25 s that the peer of an idle connection is unreachable.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

func (d *Dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil && d.HTTP2 {
		LimitUnacknowledged(c)
	}
	return c, err
}
