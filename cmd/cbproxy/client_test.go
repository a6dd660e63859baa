package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestQueueSendsOneRequestForFullName checks that the client sends more than one request only if the name lacks the
// suffix _service or no service has it.
func TestQueueSendsOneRequestForFullName(t *testing.T) {
	t.Parallel()
	var requested []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requested = append(requested, r.URL.Query().Get("service"))
		if s := r.URL.Query().Get("service"); s != "" && s != "notifier_service" {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = fmt.Fprint(w, `{"queues":{"notifier_service":{}},"requests":[],"more":false}`)
	}))
	defer server.Close()
	flags := adminFlags{admin: server.URL, output: "table", timeout: 20 * time.Second}
	c, err := flags.client()
	if err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]struct {
		requested []string
		fault     string
	}{
		"":                 {[]string{""}, ""},
		"notifier_service": {[]string{"notifier_service"}, ""},
		"notifier":         {[]string{"notifier", "notifier_service"}, ""},
		"rog":              {[]string{"rog", "rog_service", ""}, `no service is named "rog"; there are: notifier_service`},
	} {
		requested = nil
		content, err := c.queue(t.Context(), service, map[string][]string{"limit": {"3"}})
		if !slices.Equal(requested, want.requested) {
			t.Errorf("%q: requested %q, want %q", service, requested, want.requested)
		}
		if want.fault == "" && (err != nil || !strings.Contains(string(content), "requests")) || want.fault != "" && (err == nil || err.Error() != want.fault) {
			t.Errorf("%q: %q, %v", service, content, err)
		}
	}
}

// TestAgesUseProxyClock checks that ages are computed with the proxy's clock if it differs from the local one.
func TestAgesUseProxyClock(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-time.Hour, 0, time.Hour} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
			_, _ = fmt.Fprint(w, `{}`)
		}))
		flags := adminFlags{admin: server.URL, output: "table", timeout: 20 * time.Second}
		c, err := flags.client()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.get(t.Context(), "queue"); err != nil {
			t.Fatal(err)
		}
		if off := c.now().Sub(time.Now().Add(ahead)); off.Abs() > 2*time.Second {
			t.Errorf("the proxy's clock is ahead by %v, and the client's estimate is off by %v", ahead, off)
		}
		server.Close()
	}
}
