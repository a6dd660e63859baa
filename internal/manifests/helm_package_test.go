package manifests

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	chartv2util "helm.sh/helm/v4/pkg/chart/v2/util"
	"k8s.io/apimachinery/pkg/util/validation"
)

// `helm lint --strict` has no fault of the charts. They have no icon: that is for pages that list charts.
func TestHelmChartsPassLint(t *testing.T) {
	example := exampleChart(t)
	cluster, err := common.ParseKubeVersion("v1.29.0")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{example, filepath.Join(filepath.Dir(example), "cbproxy")} {
		for _, m := range lint.RunAll(folder, nil, "team", lint.WithKubeVersion(cluster)).Messages {
			if m.Severity != support.InfoSev || m.Err.Error() != "icon is recommended" {
				t.Errorf("%s: %v", filepath.Base(folder), m)
			}
		}
	}
}

// A package of a chart has the same objects as its folder, and that of the library can be a dependency.
func TestHelmPackagesRenderLikeFolders(t *testing.T) {
	example := exampleChart(t)
	want := acceptedObjects(t, loadChart(t, example), "orchestrator", "nightly: {enabled: true}")
	file, err := chartv2util.Save(loadChart(t, example), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got := acceptedObjects(t, loadChart(t, file), "orchestrator", "nightly: {enabled: true}"); !reflect.DeepEqual(got, want) {
		t.Errorf("the package has %v\nthe folder has %v", got, want)
	}

	// With the library's package in charts/, as from a registry.
	if err := os.RemoveAll(filepath.Join(example, "charts")); err != nil {
		t.Fatal(err)
	}
	if _, err := chartv2util.Save(loadChart(t, filepath.Join(filepath.Dir(example), "cbproxy")), filepath.Join(example, "charts")); err != nil {
		t.Fatal(err)
	}
	if got := acceptedObjects(t, loadChart(t, example), "orchestrator", "nightly: {enabled: true}"); !reflect.DeepEqual(got, want) {
		t.Errorf("with the package %v\nwith the folder  %v", got, want)
	}
}

// The files that the chart's page shows are a chart, and its URLs lead to its routes.
func TestHelmPageShowsWorkingChart(t *testing.T) {
	page, err := os.ReadFile("../../deploy/helm/cbproxy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n# (\\S+)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		files[block[1]] = block[2]
	}
	files["Chart.yaml"] += "apiVersion: v2\nname: shop\nversion: 0.1.0\n"
	objects := acceptedObjects(t, loadChart(t, userChart(t, "shop", files)), "shop", "")
	if len(files) != 4 || len(objects) != 3 {
		t.Fatalf("files %v, objects %v", files, objects)
	}
	url, _ := at(objects["Deployment shop"], "spec/template/spec/containers/0/env/0/value").(string)
	config, _ := at(objects["ConfigMap shop-cbproxy-config"], "data/config.yaml").(string)
	if url != "http://127.0.0.1:8080/payments" || !strings.Contains(config, "prefix: /payments\n") {
		t.Errorf("the URL is %s, the configuration\n%s", url, config)
	}
}

// Charts of one release, also with long names, and releases of one chart have different objects, whose policies select
// different pods.
func TestHelmNamesAreUniqueAndValid(t *testing.T) {
	files := map[string]string{
		"templates/cbproxy.yaml": `{{ include "cbproxy.objects" . }}`,
		"values.yaml":            "cbproxy: {config: {routes: {rag_service: {upstream: http://rag:8000}}}}",
	}
	seen := map[string]string{}
	for _, name := range []string{"shop", "Shop_2", strings.Repeat("long", 20), strings.Repeat("long", 20) + "er"} {
		folder := userChart(t, name, files)
		for _, release := range []string{"shop", "blue", strings.Repeat("r", 53), strings.Repeat("r", 52) + "9", "1.2"} {
			for id, u := range acceptedObjects(t, loadChart(t, folder), release, "") {
				for _, fault := range validation.IsDNS1123Subdomain(u.GetName()) {
					t.Errorf("%s: %s", id, fault)
				}
				ids := []string{id}
				if u.GetKind() == "NetworkPolicy" {
					label, _ := at(u, "spec/podSelector/matchLabels/cbproxy-instance").(string)
					for _, fault := range validation.IsValidLabelValue(label) {
						t.Errorf("%s: %s", label, fault)
					}
					ids = append(ids, "pods of "+label)
				}
				for _, id := range ids {
					if other, ok := seen[id]; ok {
						t.Errorf("%s and %s in release %s both have %s", other, name, release, id)
					}
					seen[id] = name + " in release " + release
				}
			}
		}
	}
}
