package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// tlsConn is implemented by *tls.Conn and *http1TLSConn.
type tlsConn interface {
	NetConn() net.Conn
	ConnectionState() tls.ConnectionState
}

// tlsHandshake performs the TLS handshake on c, a connection to address. It closes c if that fails.
func tlsHandshake(ctx context.Context, c net.Conn, config *tls.Config, address string) (*tls.Conn, error) {
	config = config.Clone() // the clone shares the session cache
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			_ = c.Close()
			return nil, &connectError{Err: fmt.Errorf("determine the server name for TLS: %w", err)}
		}
		config.ServerName = host
	}
	config.NextProtos = []string{"h2", "http/1.1"}
	if only, _ := ctx.Value(HTTP1Only).(bool); only {
		config.NextProtos = []string{"http/1.1"}
	}
	limited, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn := tls.Client(c, config)
	if err := conn.HandshakeContext(limited); err != nil {
		_ = c.Close()
		err = fmt.Errorf("TLS handshake with %s: %w", config.ServerName, err)
		if ctx.Err() == nil {
			err = &connectError{Err: err}
		}
		return nil, err
	}
	return conn, nil
}

// tlsHandshakeHTTP1 performs the TLS handshake for the fast path. It returns errHTTP2 if the upstream selects HTTP/2.
func tlsHandshakeHTTP1(ctx context.Context, c net.Conn, config *tls.Config, address string) (net.Conn, error) {
	conn, err := tlsHandshake(ctx, c, config, address)
	if err != nil {
		return nil, err
	}
	if conn.ConnectionState().NegotiatedProtocol == "h2" {
		_ = conn.Close()
		return nil, errHTTP2
	}
	return conn, nil
}

// tlsHandshakeForTransport performs the TLS handshake for http.Transport. It returns a *tls.Conn for HTTP/2, as http.Transport
// recognizes HTTP/2 by that type, and a *http1TLSConn otherwise.
func tlsHandshakeForTransport(ctx context.Context, c *Conn, config *tls.Config, address string) (net.Conn, error) {
	conn, err := tlsHandshake(ctx, c, config, address)
	if err != nil {
		return nil, err
	}
	if conn.ConnectionState().NegotiatedProtocol == "h2" {
		setTCPUserTimeout(c.Conn)
		return conn, nil
	}
	c.header.encrypted = true
	return &http1TLSConn{conn, &c.header}, nil
}

// http1TLSConn is a connection of http.Transport that uses HTTP/1.1 over TLS.
type http1TLSConn struct {
	*tls.Conn
	header *connectionHeader // of the Conn below TLS
}

// Read implements net.Conn.
func (c *http1TLSConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.header.scan(p[:n])
	return n, err
}
