package commands

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"strings"
	"sync"

	"encoding/pem"

	"github.com/rogpeppe/go-internal/testscript"

	"cbproxy/internal/e2e/harness"
)

// startProxy implements the command proxy. It starts a proxy whose configuration is FILE, without listen addresses and
// data_dir, and waits until it is ready. It sets PROXY and ADMIN to the addresses of the data plane and of the admin
// API, as HOST:PORT. The configuration may use ${UPSTREAM}. The proxy's admin token is harness.AdminToken. It is
// stopped at the end of the script, which fails if the proxy has reported a data race or a panic.
func startProxy(ts *testscript.TestScript, neg bool, args []string) {
	requireUsage(ts, neg, len(args) == 1, "proxy FILE")
	s := stateOf(ts)
	s.proxy = harness.StartProxy(s.t, harness.Options{Config: ts.ReadFile(args[0]), Env: []string{"UPSTREAM=" + ts.Getenv("UPSTREAM")}})
	ts.Setenv("PROXY", strings.TrimPrefix(s.proxy.URL, "http://"))
	ts.Setenv("ADMIN", strings.TrimPrefix(s.proxy.AdminURL, "http://"))
}

// enqueue implements the command enqueue. It posts each body to the service svc, and fails unless the proxy queues the
// request. The IDs of the requests are svc.1, svc.2 and so on.
func enqueue(ts *testscript.TestScript, neg bool, bodies []string) {
	s := stateOf(ts)
	requireUsage(ts, neg, len(bodies) > 0 && s.proxy != nil, "enqueue BODY..., after proxy FILE")
	s.proxy.MustQueue(bodies...)
}

// controlUpstream implements the command upstream. Without arguments, it reserves an address on which nothing listens,
// and sets UPSTREAM to it, as HOST:PORT. "start" starts an upstream at the address. "received" waits until the upstream
// has received requests with exactly the given bodies, in that order.
func controlUpstream(ts *testscript.TestScript, neg bool, args []string) {
	s := stateOf(ts)
	switch {
	case !neg && len(args) == 0:
		s.upstream = harness.NewRecorder(s.t)
		ts.Setenv("UPSTREAM", s.upstream.Address)
	case !neg && len(args) == 1 && args[0] == "start" && s.upstream != nil:
		s.upstream.Start()
		s.t.Cleanup(s.upstream.Kill)
	case !neg && args[0] == "received" && s.upstream != nil:
		s.upstream.AwaitDelivered(args[1:]...)
	default:
		requireUsage(ts, neg, false, "upstream [start | received BODY...], first without arguments")
	}
}

// startServer implements the command server. It starts a server that answers each request with the bytes of FILE and
// closes the connection, or, with -hold, leaves it open. It sets the variable NAME to its address, as HOST:PORT. It
// writes the requests it receives to the file NAME.requests, which does not exist without requests. With -tls, it uses
// TLS with a certificate of an unknown authority, which it writes to the file NAME.pem.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	var useTLS, hold bool
	for ; len(args) > 0 && strings.HasPrefix(args[0], "-"); args = args[1:] {
		useTLS = useTLS || args[0] == "-tls"
		hold = hold || args[0] == "-hold"
	}
	requireUsage(ts, neg, len(args) == 2, "server [-tls] [-hold] NAME FILE")
	answer, requests := ts.ReadFile(args[1]), ts.MkAbs(args[0]+".requests")
	var mu sync.Mutex // guards the file of requests
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := httputil.DumpRequest(r, true) // a partial request is written, too
		mu.Lock()
		err := appendFile(requests, text)
		mu.Unlock()
		c, _, hijackErr := http.NewResponseController(w).Hijack()
		if hijackErr != nil || err != nil {
			panic(http.ErrAbortHandler)
		}
		defer c.Close()
		_, _ = io.WriteString(c, answer) // the client may have ended
		if hold {
			_, _ = io.Copy(io.Discard, c) // until the client closes the connection
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // reports clients that do not trust the certificate
	if useTLS {
		server.StartTLS()
		certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pem"), certificate, 0o600))
	} else {
		server.Start()
	}
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.Listener.Addr().String())
}

// appendFile appends text to a file, which it creates if necessary.
func appendFile(file string, text []byte) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// setAddresses implements the command address.
func setAddresses(ts *testscript.TestScript, neg bool, names []string) {
	requireUsage(ts, neg, len(names) > 0, "address NAME...")
	for _, name := range names {
		ts.Setenv(name, harness.FreeAddress(stateOf(ts).t))
	}
}
