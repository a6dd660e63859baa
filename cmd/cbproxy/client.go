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
	maxAnswer       = 64 << 20 // bytes of an answer of the admin plane
)

// adminFlags is what every command that talks to a running proxy takes.
type adminFlags struct {
	admin, tokenFile, caFile, output string
	timeout                          time.Duration
}

// add declares the flags, for a command and those below it.
func (f *adminFlags) add(c *cobra.Command) {
	flags := c.PersistentFlags()
	flags.StringVar(&f.admin, "admin", "", "admin URL of the proxy, or host:port (default $"+adminVariable+", else "+defaultAdminURL+")")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the admin token (default: $"+routes.TokenVariable+" is the token)")
	flags.StringVar(&f.caFile, "ca-file", "", "certificates of the authorities to trust, for https")
	flags.StringVarP(&f.output, "output", "o", "table", "table, or json: what the API says, for scripts")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Second, "how long to wait for an answer")
	// These fail for unknown flags only.
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	for _, file := range []string{"token-file", "ca-file"} {
		_ = c.RegisterFlagCompletionFunc(file, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
	}
}

// client asks a running proxy's admin plane.
type client struct {
	address     string // as the operator gave it
	base        string
	token       string
	tokenOrigin string // where the token is from, "" if there is none
	json        bool
	timeout     time.Duration
	ahead       time.Duration // how far the proxy's clock is before this machine's, if that is more than it takes to tell
	http        *http.Client
}

// client returns a client by the flags; its error is one of usage.
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
		return nil, invalid(fmt.Errorf("%s: the token holds characters that can't be sent, perhaps a second line", c.tokenOrigin))
	}
	if f.caFile != "" {
		content, err := os.ReadFile(f.caFile)
		if err != nil {
			return nil, invalid(fmt.Errorf("--ca-file: %w", err))
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(content) {
			return nil, invalid(fmt.Errorf("--ca-file: %s holds no certificate", f.caFile))
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for this address alone
	}
	return c, nil
}

// adminTransport returns the URL that an admin address stands for, and what to reach it with. No
// proxy of the environment's stands between.
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

// now returns the time by the proxy's clock, so that ages are right where the clocks differ.
func (c *client) now() time.Time { return time.Now().Add(c.ahead) }

// get returns the JSON at a path below /api/v1/.
func (c *client) get(ctx context.Context, path string) ([]byte, error) {
	return c.call(ctx, http.MethodGet, path, nil)
}

// call asks and returns the answer, an error unless that is a 200 or a 202. The error is fit for the
// operator's eyes.
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
	content, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, c.brokenOff(err)
	}
	if !json.Valid(content) {
		return nil, c.stranger()
	}
	return content, nil
}

// send returns the response if its status is 200, or 202, which says itself what is not done yet.
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
		return nil, c.unanswered(err)
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusAccepted {
		defer res.Body.Close()
		return nil, failure(c.refusal(res))
	}
	return res, nil
}

// decode reads an answer into v.
func (c *client) decode(content []byte, v any) error {
	if err := json.Unmarshal(content, v); err != nil {
		return failure(fmt.Errorf("cbproxy at %s answers with what this version can't read: %s", c.address, clean(err.Error())))
	}
	return nil
}
