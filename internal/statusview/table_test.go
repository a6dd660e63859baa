package statusview

import (
	"strings"
	"testing"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
)

func TestStatusTable(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	in := func(d time.Duration) *time.Time { at := now.Add(d); return &at }
	refused := "config.yaml:3:1: routes: wrong\x1b[2J\nconfig.yaml:4:1: more"
	p := &Status{
		Health: admin.Health{
			Status: "critical", Instance: "host-1",
			Config: admin.ConfigStatus{Hash: "abc", LoadedAt: *in(-90 * time.Minute), LastError: &refused, RestartRequired: []string{"listen"}},
			Redis:  admin.RedisStatus{Configured: true, Since: in(-3 * time.Second)},
			Services: map[string]admin.Service{
				"b": {State: events.Closed, Since: *in(-26 * time.Hour), Mode: "enforce", Configuration: admin.Configuration{FailMax: 5}, FailCounter: 3},
				"a_service": {State: events.Open, Since: *in(-12 * time.Second), RetryAt: in(48 * time.Second), Mode: "enforce", FailCounter: 5, Configuration: admin.Configuration{FailMax: 5},
					Forced:    &admin.Forced{State: events.Open, Until: in(10 * time.Minute), Reason: "\x1b]0;owned\amaintenance", Scope: "instance"},
					LastError: &events.Failure{Time: *in(-12 * time.Second), Type: events.ErrorConnect, Detail: "refused\r\u009b31m"}},
			},
		},
		Queues: map[string]events.QueueStatus{"a_service": {Waiting: 2, Dead: 1}},
	}
	var got strings.Builder
	if err := p.Draw(&got, false, now); err != nil {
		t.Fatal(err)
	}
	const want = `critical · instance host-1 · config abc, 1h30m old · redis down for 3s
The last configuration was rejected, the previous one stays active:
  config.yaml:3:1: routes: wrong�[2J
  config.yaml:4:1: more
Restart required: listen

SERVICE    STATE   SINCE  PROBE IN  FAILURES  FORCED                                 QUEUE              LAST ERROR
a_service  open    12s    48s       5/5       open for 10m00s: �]0;owned�maintenance  2 waiting, 1 dead  connect 12s ago: refused��31m
b          closed  1d02h  -         3/5       -                                      -                  -
`
	if collapseSpaces(got.String()) != collapseSpaces(want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	got.Reset()
	if err := p.Draw(&got, true, now); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.String(), "\x1b[31mopen\x1b[0m") || !strings.Contains(got.String(), "\x1b[32mclosed\x1b[0m") {
		t.Errorf("no colours: %q", got.String())
	}
}

// draw returns a status without colours and with single spaces.
func draw(t *testing.T, p *Status) string {
	t.Helper()
	var got strings.Builder
	if err := p.Draw(&got, false, time.Time{}); err != nil {
		t.Fatal(err)
	}
	return collapseSpaces(got.String())
}

func TestStatusShowsShadowRejections(t *testing.T) {
	t.Parallel()
	p := &Status{Health: admin.Health{Services: map[string]admin.Service{
		"a": {Mode: "shadow", ShadowRejections: 12}, "b": {Mode: "shadow"}, "c": {Mode: "enforce"},
	}}}
	all := draw(t, p)
	for service, want := range map[string]string{"a": "shadow, would have rejected 12", "b": "shadow", "c": "enforce"} {
		inTable := want
		if want == "enforce" { // the table leaves out the default mode
			inTable = "-"
		}
		if !strings.Contains(all, inTable+"\n") {
			t.Errorf("no %q in\n%s", inTable, all)
		}
		p.Service = service
		if one := draw(t, p); !strings.Contains(one, "mode "+want+"\n") {
			t.Errorf("%s: no mode %q in\n%s", service, want, one)
		}
		p.Service = ""
	}
}

func TestStatusShowsAdmission(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		service   admin.Service
		admission string // "" if the row and the column are left out
	}{
		"nothing rejected":    {admin.Service{Mode: "enforce", Algorithm: "throttle", AdmittedRatio: 1}, ""},
		"throttled":           {admin.Service{Mode: "enforce", Algorithm: "throttle", RejectionRatio: 0.25, AdmittedRatio: 1}, "throttled: 25 % rejected"},
		"recovering":          {admin.Service{Mode: "enforce", Algorithm: "ratio", AdmittedRatio: 0.1}, "recovering: 10 % let through"},
		"both, in shadow":     {admin.Service{Mode: "shadow", Algorithm: "throttle", RejectionRatio: 0.25, AdmittedRatio: 0.5}, "throttled: 25 % would be rejected, recovering: 50 % would be let through"},
		"with failing checks": {admin.Service{Mode: "enforce", Algorithm: "expression", AdmittedRatio: 1, ExpressionErrors: 3}, ""},
	} {
		p := &Status{Health: admin.Health{Services: map[string]admin.Service{"svc": c.service}}}
		for _, p.Service = range []string{"", "svc"} {
			var got strings.Builder
			if err := p.Draw(&got, false, time.Time{}); err != nil {
				t.Fatal(err)
			}
			text := collapseSpaces(got.String())
			if c.admission == "" && strings.Contains(strings.ToLower(text), "admission") || !strings.Contains(text, c.admission) {
				t.Errorf("%s: want %q in\n%s", name, c.admission, text)
			}
			if p.Service == "" {
				continue
			}
			if !strings.Contains(text, "algorithm "+c.service.Algorithm+"\n") || strings.Contains(text, "expression errors 3\n") != (c.service.ExpressionErrors == 3) {
				t.Errorf("%s:\n%s", name, text)
			}
		}
	}
}

// collapseSpaces replaces each run of spaces by one space, as the width of replaced characters does not matter here.
func collapseSpaces(s string) string {
	for strings.Contains(s, "  ") {
		s = strings.ReplaceAll(s, "  ", " ")
	}
	return s
}
