package attack

import (
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestResponsesDoNotLeakUpstreamAddresses checks that an error response without a fallback does not contain
// the upstream's address.
func TestResponsesDoNotLeakUpstreamAddresses(t *testing.T) {
	t.Parallel()
	unused := harness.FreeAddress(t)
	p := harness.StartProxy(t, harness.Options{Config: `defaults: {fallback_enabled: false, breaker: {fail_max: 1}}
routes: {svc: {prefix: /svc, upstream: "http://` + unused + `/hidden"}}
`})
	_, port, _ := strings.Cut(unused, ":")
	for _, status := range []int{http.StatusBadGateway, http.StatusServiceUnavailable} {
		res, err := http.Get(p.URL + "/svc/x")
		r := harness.ReadResponse(t, res, err)
		var exposed strings.Builder
		_ = r.Header.Write(&exposed)
		exposed.WriteString(r.Body)
		if r.Status != status || strings.Contains(exposed.String(), port) || strings.Contains(exposed.String(), "hidden") {
			t.Errorf("status %d, exposed %s", r.Status, exposed.String())
		}
	}
}

// TestMetricsContainNoRequestData checks that clients cannot create metric series.
func TestMetricsContainNoRequestData(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: `routes: {svc: {prefix: /svc, upstream: "` + u.URL() + `"}}` + "\n"})
	const marker = "clientmarker"
	for _, path := range []string{"/svc/", "/elsewhere/", "/svc/../"} {
		r, err := http.NewRequest(strings.ToUpper(marker), p.URL+path+marker+"?"+marker, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = marker
		for _, name := range []string{"User-Agent", "X-Circuit-Breaker-Service", "X-Fallback", "Content-Type", marker} {
			r.Header.Set(name, marker)
		}
		res, err := http.DefaultClient.Do(r)
		_ = harness.ReadResponse(t, res, err)
	}
	if metrics := p.Metrics(); strings.Contains(strings.ToLower(metrics), marker) || !strings.Contains(metrics, `service="svc"`) {
		t.Errorf("the metrics contain request data: %s", metrics)
	}
}
