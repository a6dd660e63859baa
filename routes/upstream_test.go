package routes_test

import (
	"testing"

	"cbproxy/routes"
)

func TestEndpoints(t *testing.T) {
	t.Parallel()
	c := parse(t, `
defaults: {upstream: [http://a:8000, DNS+H2C://B/v1/]}
routes:
  rag_service: {}
  other: {prefix: /other, upstream: dns+https://c}
`)
	got := c.Routes["rag_service"].Upstream
	if len(got) != 2 || got[0].Resolve || !got[1].Resolve || got[1].Scheme != "h2c" || got[1].Host != "B" || got[1].Path != "/v1" {
		t.Errorf("got %+v", got)
	}
	if text := got.String(); text != "http://a:8000, dns+h2c://B/v1" {
		t.Errorf("got the text %s", text)
	}
	other := c.Routes["other"].Upstream
	if len(other) != 1 || !other[0].Resolve || other.String() != "dns+https://c" {
		t.Errorf("other has %s", other)
	}
	if text := (routes.Endpoint{}).String(); text != "" {
		t.Errorf("an endpoint without a URL is shown as %q", text)
	}
}

// Connections are shared by endpoints that lead to the same place in the same way, whatever their path.
func TestConnectionKeyOfEndpoints(t *testing.T) {
	t.Parallel()
	tls := routes.TLS{ServerName: "rag.internal"}
	upstream := parse(t, "routes: {rag_service: {upstream: [http://a/v1, http://a/v2, dns+http://a, https://a, dns+https://a]}}").Routes["rag_service"].Upstream
	var keys []routes.ConnectionKey
	for _, e := range upstream {
		keys = append(keys, e.ConnectionKey(tls))
	}
	if keys[0] != keys[1] {
		t.Error("two paths of one server have different keys")
	}
	for i, a := range keys[1:] {
		for _, b := range keys[i+2:] {
			if a == b {
				t.Errorf("equal keys %+v", a)
			}
		}
	}
	if keys[0] != upstream[0].ConnectionKey(routes.TLS{}) || keys[4] == upstream[4].ConnectionKey(routes.TLS{}) {
		t.Error("the key depends on tls only for https")
	}
}

func TestRoutesInheritSingleKeys(t *testing.T) {
	t.Parallel()
	c := parse(t, `
defaults:
  balance: {eject: {fail_max: 2}}
  breaker: {by: {header: X-Model}}
routes:
  rag_service: {upstream: http://a, balance: {policy: round_robin}}
  other: {prefix: /other, upstream: http://b, breaker: {by: {max: 3}}}
`)
	rag, other := c.Routes["rag_service"], c.Routes["other"]
	if b := rag.Balance; b.Policy != "round_robin" || b.Eject.FailMax != 2 || b.Eject.MaxRatio != 0.5 {
		t.Errorf("rag_service has %+v", b)
	}
	if want := (routes.By{Header: "X-Model", Max: 3}); other.Breaker.By != want {
		t.Errorf("other has %+v, want %+v", other.Breaker.By, want)
	}
	if rag.Breaker.By.Max != 100 || other.Balance.Policy != "least_in_flight" {
		t.Errorf("rag_service has %+v, other has %+v", rag.Breaker.By, other.Balance)
	}
	off := parse(t, minimal).Routes["rag_service"]
	if off.AttemptTimeout != 0 || off.Hedge.After != 0 || off.Stream.FirstEventTimeout != 0 || off.Stream.MinBytesPerSecond != 0 ||
		off.Breaker.By.Header != "" || off.Breaker.Probe.Always || off.Breaker.Probe.GRPC {
		t.Errorf("something is on by default: %+v", off)
	}
}
