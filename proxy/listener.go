package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"

	"cbproxy/routes"
)

// Listen listens on host:port or on unix:///path. A Unix socket that no process listens on
// any more is replaced.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	path, isUnix := strings.CutPrefix(address, "unix://")
	if !isUnix {
		l, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		return clientListener{l}, nil
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close() // it has told what it was asked for
		return nil, fmt.Errorf("listen on %s: another process listens there", address)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: remove the socket that was left: %w", address, err)
		}
	}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return clientListener{l}, nil
}

// headerSlack is how far a header section may be over the limit and still be answered with
// the route's own problem; beyond that net/http refuses it.
const headerSlack = 256 << 10

// NewHTTPServer returns the data plane's server: HTTP/1.1 and HTTP/2 without TLS, on one
// port. It is to be given a listener that Listen has made: on other connections it does
// without what clientConn does.
func NewHTTPServer(handler http.Handler, limits routes.Limits, logger *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	told := func(string, int) {}
	if s, ok := handler.(*Server); ok {
		told = s.refused
	}
	return &http.Server{
		Handler:                      clientHandler{handler, told},
		Protocols:                    protocols,
		ReadHeaderTimeout:            limits.ReadHeaderTimeout,
		IdleTimeout:                  limits.IdleTimeout,
		MaxHeaderBytes:               int(limits.HeaderBytes) + headerSlack,
		DisableGeneralOptionsHandler: true,
		ConnState:                    stateChanged,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return adopt(ctx, c, limits.IdleTimeout, told)
		},
		// A client that takes no bytes would hold a connection for ever.
		HTTP2:    &http.HTTP2Config{WriteByteTimeout: limits.IdleTimeout},
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}
