package statusview

import (
	"strings"
	"testing"
	"time"

	"cbproxy/internal/admin"
)

func TestStatusShowsKeysThatAreNotClosed(t *testing.T) {
	t.Parallel()
	p := &Status{Health: admin.Health{Services: map[string]admin.Service{
		"svc": {Keys: &admin.KeysSummary{Total: 13, Open: 2, HalfOpen: 1}}, "none": {Keys: &admin.KeysSummary{}}, "off": {},
	}}}
	for _, p.Service = range []string{"", "svc"} {
		var got strings.Builder
		if err := p.Draw(&got, false, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(got.String(), "3/13 not closed") || strings.Contains(got.String(), "0/0") {
			t.Errorf("got\n%s", got.String())
		}
	}
}
