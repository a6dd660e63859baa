package statusview

import (
	"strings"
	"testing"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
)

func TestStatusShowsEndpoints(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) *time.Time { at := time.Time{}.Add(d); return &at }
	p := &Status{Health: admin.Health{Services: map[string]admin.Service{
		"several": {Endpoints: []admin.Endpoint{
			{URL: "http://rag-1:8000", State: events.EndpointIn, InFlight: 3},
			{URL: "http://rag-2:8000", State: events.EndpointEjected, Until: in(23 * time.Second), FailCounter: 5, Ejections: 2,
				LastError: &events.Failure{Time: *in(-7 * time.Second), Type: events.ErrorConnect, Detail: "refused\x1b[2J"}},
			{URL: "http://rag-3:8000", State: events.EndpointEjected, Until: in(-time.Second), FailCounter: 6, Ejections: 1},
			{URL: "http://rag-4:8000", State: events.EndpointIn, FailCounter: 1},
		}},
		"one":  {Endpoints: []admin.Endpoint{{URL: "http://only:8000", State: events.EndpointIn}}},
		"none": {Endpoints: []admin.Endpoint{}},
		"old":  {},
	}}}
	if all := draw(t, p); !strings.Contains(all, " FAILURES ENDPOINTS\n") || !strings.Contains(all, " 2/4 in\n") || strings.Count(all, " -\n") != 2 ||
		!strings.Contains(all, " none, DNS has not answered yet\n") {
		t.Errorf("got\n%s", all)
	}
	for service, want := range map[string]string{
		"several": "endpoints 2/4 in\n" +
			" http://rag-1:8000 in, 3 in flight\n" +
			" http://rag-2:8000 ejected for 23s, 0 in flight, consecutive failures: 5, ejections: 2, connect 7s ago: refused�[2J\n" +
			" http://rag-3:8000 ejected, until it answers a request, 0 in flight, consecutive failures: 6, ejections: 1\n" +
			" http://rag-4:8000 in, 0 in flight, consecutive failures: 1\n",
		"one": "", "none": "endpoints none, DNS has not answered yet\n", "old": "",
	} {
		p.Service = service
		one := draw(t, p)
		if !strings.Contains(one, want) || want == "" && strings.Contains(one, "endpoints") {
			t.Errorf("%s: got\n%s\nwant\n%s", service, one, want)
		}
	}
	delete(p.Health.Services, "several")
	delete(p.Health.Services, "none")
	p.Service = ""
	if all := draw(t, p); strings.Contains(all, "ENDPOINTS") {
		t.Errorf("a column without content:\n%s", all)
	}
}
