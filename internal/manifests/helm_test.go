package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	chartutil "helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartv2util "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/cli"
	"helm.sh/helm/v4/pkg/downloader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/getter"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	yamlreader "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// copyCharts copies deploy/helm into a new folder, which Helm may write to.
func copyCharts(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"cbproxy", "example"} { // without charts/, which an author's `helm dependency update` leaves
		if err := os.CopyFS(filepath.Join(folder, name), os.DirFS("../../deploy/helm/"+name)); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(folder, name, "charts")); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// updateDependencies does what `helm dependency update` does, without a network.
func updateDependencies(t *testing.T, folder string) {
	t.Helper()
	var output bytes.Buffer
	cache := t.TempDir()
	manager := downloader.Manager{Out: &output, ChartPath: folder, Getters: getter.All(cli.New()),
		RepositoryConfig: filepath.Join(cache, "repositories.yaml"), RepositoryCache: cache, ContentCache: cache}
	if err := manager.Update(); err != nil {
		t.Fatalf("%v\n%s", err, output.String())
	}
}

// exampleChart returns the folder of the example with its dependency.
func exampleChart(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(copyCharts(t), "example")
	updateDependencies(t, folder)
	return folder
}

// userChart returns the folder of another chart with the files, which depends on the library, and its dependency.
func userChart(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	folder := filepath.Join(copyCharts(t), name)
	all := map[string]string{"Chart.yaml": "{apiVersion: v2, name: " + name + ", version: 1.2.3, " +
		"dependencies: [{name: cbproxy, version: ^1.0.0, repository: file://../cbproxy}]}"}
	maps.Copy(all, files)
	for name, content := range all {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	updateDependencies(t, folder)
	return folder
}

// loadChart loads a chart from a folder or a package.
func loadChart(t *testing.T, path string) *chart.Chart {
	t.Helper()
	c, err := loader.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// parseValues parses the content of a values file.
func parseValues(t *testing.T, text string) map[string]any {
	t.Helper()
	values, err := loader.LoadValues(bytes.NewReader([]byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// renderChart returns the objects of a release, like `helm template` with a file of values.
func renderChart(t *testing.T, c *chart.Chart, release string, values map[string]any) ([]*unstructured.Unstructured, error) {
	t.Helper()
	if err := chartv2util.ProcessDependencies(c, values); err != nil {
		return nil, err
	}
	cluster := common.DefaultCapabilities.Copy()
	cluster.KubeVersion = common.KubeVersion{Version: "v1.29.0", Major: "1", Minor: "29"}
	all, err := chartutil.ToRenderValues(c, values, common.ReleaseOptions{Name: release, Namespace: "team", Revision: 1, IsInstall: true}, cluster)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(files)) {
		reader := yamlreader.NewYAMLReader(bufio.NewReader(bytes.NewReader([]byte(files[name]))))
		for {
			text, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			u := &unstructured.Unstructured{}
			if err := yaml.UnmarshalStrict(text, &u.Object); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			if u.Object != nil {
				objects = append(objects, u)
			}
		}
	}
	return objects, nil
}

// renderExample returns the objects of the example with the values, as the release orchestrator. An API server accepts the
// objects of Kubernetes' own kinds.
func renderExample(t *testing.T, values string) map[string]*unstructured.Unstructured {
	t.Helper()
	return acceptedObjects(t, loadChart(t, exampleChart(t)), "orchestrator", values)
}

// acceptedObjects renders a chart and returns its objects by kind and name.
func acceptedObjects(t *testing.T, c *chart.Chart, release, values string) map[string]*unstructured.Unstructured {
	t.Helper()
	objects, err := renderChart(t, c, release, parseValues(t, values))
	if err != nil {
		t.Fatal(err)
	}
	server := newCoreAPI(t)
	byName := map[string]*unstructured.Unstructured{}
	for _, u := range objects {
		id := u.GetKind() + " " + u.GetName()
		if byName[id] != nil {
			t.Errorf("%s is there twice", id)
		}
		byName[id] = u
		if u.GroupVersionKind().Group == "monitoring.coreos.com" {
			continue
		}
		if err := server.create(u); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	return byName
}
