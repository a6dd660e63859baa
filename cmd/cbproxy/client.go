package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpguts"

	"cbproxy/routes"
)

const (
	defaultAdminURL = "http://127.0.0.1:9901"
	adminVariable   = "CBPROXY_ADMIN"
	maxResponse     = 64 << 20 // bytes of a response of the admin API
)

// adminFlags are the flags of every command that calls the admin API of a running proxy.
type adminFlags struct {
	admin, tokenFile, caFile, output string
	timeout                          time.Duration
}

// add declares the flags for a command and its subcommands.
func (f *adminFlags) add(c *cobra.Command) {
	flags := c.PersistentFlags()
	flags.StringVar(&f.admin, "admin", "", "admin URL of the proxy, or host:port (default $"+adminVariable+", else "+defaultAdminURL+")")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the admin token (default: $"+routes.TokenVariable+" is the token)")
	flags.StringVar(&f.caFile, "ca-file", "", "file with the CA certificates to trust, for https")
	flags.StringVarP(&f.output, "output", "o", "table", "output format: table, or json for scripts")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Second, "how long to wait for a response")
	// These fail for unknown flags only.
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	for _, file := range []string{"token-file", "ca-file"} {
		_ = c.RegisterFlagCompletionFunc(file, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
	}
}

// client calls the admin API of a running proxy.
type client struct {
	address     string // as given by the user
	base        string
	token       string
	tokenOrigin string // flag or variable that the token was read from; "" without a token
	json        bool
	timeout     time.Duration
	ahead       time.Duration // lead of the proxy's clock over the local one; 0 if it is too small to measure
	http        *http.Client
}

// client returns a client that is configured by the flags. Its errors are usage errors.
func (f *adminFlags) client() (*client, error) {
	if f.output != "table" && f.output != "json" {
		return nil, invalid(fmt.Errorf("--output: must be table or json, got %q", f.output))
	}
	if f.timeout <= 0 {
		return nil, invalid(fmt.Errorf("--timeout: must be positive, got %v", f.timeout))
	}
	address, origin := f.admin, "--admin"
	if address == "" {
		address, origin = os.Getenv(adminVariable), adminVariable
	}
	if address == "" {
		address = defaultAdminURL
	}
	base, transport, err := adminTransport(address)
	if err != nil {
		return nil, invalid(fmt.Errorf("%s: %w", origin, err))
	}
	c := &client{address: base, base: base, json: f.output == "json", timeout: f.timeout, token: strings.TrimSpace(os.Getenv(routes.TokenVariable))}
	if strings.HasPrefix(address, "unix://") {
		c.address = address
	}
	if c.token != "" {
		c.tokenOrigin = routes.TokenVariable
	}
	if f.tokenFile != "" {
		content, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, invalid(fmt.Errorf("--token-file: %w", err))
		}
		c.token, c.tokenOrigin = strings.TrimSpace(string(content)), "--token-file "+f.tokenFile
		if c.token == "" {
			return nil, invalid(fmt.Errorf("--token-file: %s contains no token", f.tokenFile))
		}
	}
	if !httpguts.ValidHeaderFieldValue(c.token) {
		return nil, invalid(fmt.Errorf("%s: the token contains characters that are not allowed in a header field, perhaps a line break", c.tokenOrigin))
	}
	if f.caFile != "" {
		content, err := os.ReadFile(f.caFile)
		if err != nil {
			return nil, invalid(fmt.Errorf("--ca-file: %w", err))
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(content) {
			return nil, invalid(fmt.Errorf("--ca-file: %s contains no certificate", f.caFile))
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token must not be sent elsewhere
	}
	return c, nil
}

// adminTransport returns the base URL of an admin address and the transport to reach it. It ignores the
// environment's HTTP proxies.
func adminTransport(address string) (string, *http.Transport, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return "http://localhost", transport, nil
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return "", nil, errors.New("must be http://HOST:PORT, https://HOST:PORT, unix:///PATH or HOST:PORT, without credentials")
	}
	return strings.TrimSuffix(address, "/"), transport, nil
}

// now returns the current time by the proxy's clock, so that ages are right even if the clocks differ.
func (c *client) now() time.Time { return time.Now().Add(c.ahead) }

// get returns the JSON document at a path below /api/v1/.
func (c *client) get(ctx context.Context, path string) ([]byte, error) {
	return c.call(ctx, http.MethodGet, path, nil)
}

// call sends a request and returns the JSON body of the response. A status other than 200, 201 and 202 is an error. Error
// texts are safe to print.
func (c *client) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	res, err := c.send(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil { // whole seconds
		if c.ahead = time.Until(date); c.ahead.Abs() < c.timeout+time.Second {
			c.ahead = 0
		}
	}
	content, err := io.ReadAll(io.LimitReader(res.Body, maxResponse))
	if err != nil {
		return nil, c.truncated(err)
	}
	if !json.Valid(content) {
		return nil, c.notAdminAPI()
	}
	return content, nil
}

// send returns the response if its status is 200, 201 or 202. The body of a 202 says what is still pending.
func (c *client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+"/api/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, failure(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(r)
	if err != nil {
		return nil, c.sendError(err)
	}
	if res.StatusCode < http.StatusOK || res.StatusCode > http.StatusAccepted {
		defer res.Body.Close()
		return nil, failure(c.refusal(res))
	}
	return res, nil
}

// decode unmarshals a response into v.
func (c *client) decode(content []byte, v any) error {
	if err := json.Unmarshal(content, v); err != nil {
		return failure(fmt.Errorf("cbproxy at %s sent a response that this version cannot decode: %s", c.address, clean(err.Error())))
	}
	return nil
}
