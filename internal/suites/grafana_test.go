package suites

import (
	"os"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// The dashboard conforms to Grafana's schema: it has no unknown key, no value of a wrong type, and all required values.
func TestDashboardConformsToGrafanaSchema(t *testing.T) {
	content, err := os.ReadFile("../../monitoring/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	kinds := cog.NewRuntime()
	kinds.RegisterDataqueryVariant(prometheus.VariantConfig())
	kinds.RegisterPanelcfgVariant(stat.VariantConfig())
	kinds.RegisterPanelcfgVariant(statetimeline.VariantConfig())
	kinds.RegisterPanelcfgVariant(timeseries.VariantConfig())
	//lint:ignore SA1019 the newer schema requires a newer Grafana
	var d dashboard.Dashboard
	if err := d.UnmarshalJSONStrict(content); err != nil && err.Error() != "" { // a list of errors, which may be empty
		t.Error(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	if len(d.Panels) < 20 {
		t.Errorf("%d panels", len(d.Panels))
	}
}
