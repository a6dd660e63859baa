package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newHealthcheckCommand() *cobra.Command {
	var admin string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "healthcheck",
		Short: "Exit with 0 if the local proxy is ready",
		Example: `  cbproxy healthcheck
  cbproxy healthcheck --admin unix:///run/cbproxy/admin.sock
  cbproxy healthcheck --admin https://127.0.0.1:9901`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return invalid(fmt.Errorf("--timeout: must be positive, got %v", timeout))
			}
			if _, _, err := adminTransport(admin); err != nil {
				return invalid(fmt.Errorf("--admin: %w", err))
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			if err := checkReady(ctx, admin); err != nil {
				return failure(fmt.Errorf("check readiness at %s: %w", admin, err))
			}
			return nil
		},
	}
	c.Flags().StringVar(&admin, "admin", defaultAdminURL, "admin URL of the proxy")
	c.Flags().DurationVar(&timeout, "timeout", 2*time.Second, "how long to wait for the response")
	return c
}

// checkReady returns an error unless the proxy with the given admin URL is ready.
func checkReady(ctx context.Context, admin string) error {
	base, transport, err := adminTransport(admin)
	if err != nil {
		return err
	}
	// No secret is sent, and the certificate of a local proxy is for another name, so it is not verified.
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // #nosec G402 -- see above
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return nil
	}
	var problem struct{ Detail string }
	content, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // a partial body is reported, too
	text := string(content)
	if json.Unmarshal(content, &problem) == nil {
		text = problem.Detail
	}
	return fmt.Errorf("status %s: %s", clean(res.Status), short(strings.TrimSpace(text), 200))
}
