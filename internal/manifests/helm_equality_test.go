package manifests

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// normalizeRelease removes from the objects of a release what differs from k8s/ on purpose:
//   - Several releases may be in a namespace, so the names of the sidecar's objects begin with that of the release.
//   - The labels cbproxy-instance and app.kubernetes.io/instance say which chart and release a pod belongs to; the policy
//     and the monitor select only its pods.
//   - The sidecar's objects have the usual labels of Helm.
func normalizeRelease(objects map[string]*unstructured.Unstructured, prefix string) map[string]any {
	normalized := map[string]any{}
	for _, u := range objects {
		if strings.HasPrefix(u.GetName(), prefix) {
			unstructured.RemoveNestedField(u.Object, "metadata", "labels")
		}
		object := replaceIn(u.Object, prefix).(map[string]any)
		metadata := object["metadata"].(map[string]any)
		normalized[object["kind"].(string)+" "+metadata["name"].(string)] = object
	}
	return normalized
}

// replaceIn returns a copy of a value without these labels, and with names that begin with cbproxy instead of
// the prefix.
func replaceIn(v any, prefix string) any {
	switch v := v.(type) {
	case map[string]any:
		c := map[string]any{}
		for key, value := range v {
			if key != "cbproxy-instance" && key != "app.kubernetes.io/instance" {
				c[key] = replaceIn(value, prefix)
			}
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i := range v {
			c[i] = replaceIn(v[i], prefix)
		}
		return c
	case string:
		if rest, ok := strings.CutPrefix(v, prefix); ok {
			return "cbproxy" + rest
		}
	}
	return v
}

// parseConfig replaces the configuration's text in a ConfigMap, which may have comments, by its content.
func parseConfig(t *testing.T, object any) {
	t.Helper()
	data := object.(map[string]any)["data"].(map[string]any)
	var config any
	if err := yaml.UnmarshalStrict([]byte(data["config.yaml"].(string)), &config); err != nil {
		t.Fatal(err)
	}
	data["config.yaml"] = config
}

// sortVariables sorts the variables of the orchestrator, which the chart has in a map.
func sortVariables(deployment any) {
	spec := deployment.(map[string]any)["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
	variables := spec["containers"].([]any)[0].(map[string]any)["env"].([]any)
	slices.SortFunc(variables, func(a, b any) int {
		return cmp.Compare(a.(map[string]any)["name"].(string), b.(map[string]any)["name"].(string))
	})
}

// expectEqual compares objects by their kind and name.
func expectEqual(t *testing.T, got, want map[string]any) {
	t.Helper()
	for id, w := range want {
		if !reflect.DeepEqual(got[id], w) {
			g, _ := yaml.Marshal(got[id])
			w, _ := yaml.Marshal(w)
			t.Errorf("%s differs from k8s/.\n--- the chart\n%s\n--- k8s/\n%s", id, g, w)
		}
	}
	for id := range got {
		if want[id] == nil {
			t.Errorf("%s is only in the chart", id)
		}
	}
}

// The example chart has the same objects as the example kustomization.
func TestHelmExampleEqualsKustomizeExample(t *testing.T) {
	got := normalizeRelease(renderExample(t, ""), "orchestrator-cbproxy")
	want := map[string]any{}
	for _, u := range kustomizeObjects(t, "../../k8s/example") {
		want[u.GetKind()+" "+u.GetName()] = u.Object
	}
	for _, objects := range []map[string]any{got, want} {
		parseConfig(t, objects["ConfigMap cbproxy-config"])
		sortVariables(objects["Deployment orchestrator"])
	}
	expectEqual(t, got, want)
}

// A whole file as the value configText is in the ConfigMap byte by byte.
func TestHelmConfigTextIsUsedUnchanged(t *testing.T) {
	file, err := os.ReadFile("../../k8s/sidecar/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// Fallback templates have the same delimiters as Helm's; without a newline at the end, the file must not get one.
	for _, text := range []string{string(file), string(file) + "# {{ .Release.Name }}\n\n", strings.TrimSuffix(string(file), "\n")} {
		values, err := json.Marshal(map[string]any{"cbproxy": map[string]any{"config": nil, "configText": text}})
		if err != nil {
			t.Fatal(err)
		}
		got, _, _ := unstructured.NestedString(renderExample(t, string(values))["ConfigMap orchestrator-cbproxy-config"].Object, "data", "config.yaml")
		if got != text {
			t.Errorf("got  %q\nwant %q", got, text)
		}
	}
}

// The monitor is that of k8s/operator, but for the pods of one chart, in its namespace.
func TestHelmPodMonitorEqualsThatOfOperator(t *testing.T) {
	monitor := renderExample(t, "cbproxy: {podMonitor: {enabled: true, labels: {release: prometheus, app.kubernetes.io/instance: x}}}")["PodMonitor orchestrator-cbproxy"]
	if monitor == nil {
		t.Fatal("there is no PodMonitor")
	}
	if l := monitor.GetLabels(); l["release"] != "prometheus" || l["app.kubernetes.io/instance"] != "x" || l["app.kubernetes.io/name"] != "cbproxy" {
		t.Errorf("labels %v", monitor.GetLabels())
	}
	if err := newOperatorAPI(t, "PodMonitor").create(t, monitor.DeepCopy()); err != nil {
		t.Error(err)
	}
	got := normalizeRelease(map[string]*unstructured.Unstructured{"": monitor}, "orchestrator-cbproxy")
	want := map[string]any{}
	for _, u := range kustomizeObjects(t, "../../k8s/operator") {
		if u.GetKind() == "PodMonitor" {
			unstructured.RemoveNestedField(u.Object, "metadata", "labels")
			unstructured.RemoveNestedField(u.Object, "spec", "namespaceSelector")
			want["PodMonitor cbproxy"] = u.Object
		}
	}
	expectEqual(t, got, want)
}

// In each kind of workload, and with everything that its pod may have, the templates add what the component adds.
func TestHelmTemplatesAddWhatComponentAdds(t *testing.T) {
	for kind, workload := range workloads {
		for name, spec := range podSpecs {
			t.Run(kind+" "+name, func(t *testing.T) {
				object := strings.ReplaceAll(workload, "$SPEC", spec)
				folder := userChart(t, "shop", map[string]string{
					"templates/cbproxy.yaml":  `{{ include "cbproxy.objects" . }}`,
					"templates/workload.yaml": includeSidecar(t, renderWorkload(t, object, false)),
					"values.yaml":             "cbproxy: {config: {routes: {rag_service: {upstream: http://rag:8000}}}}",
				})
				objects := acceptedObjects(t, loadChart(t, folder), "blue", "")
				got := normalizeRelease(map[string]*unstructured.Unstructured{"": objects[kind+" x"]}, "blue-shop-cbproxy")
				expectEqual(t, got, map[string]any{kind + " x": renderWorkload(t, object, true).Object})
				if objects["ConfigMap blue-shop-cbproxy-config"] == nil || objects["NetworkPolicy blue-shop-cbproxy"] == nil {
					t.Errorf("the objects are %v", objects)
				}
			})
		}
	}
}

// includeSidecar returns a template of the workload that includes the sidecar before its own init containers and volumes.
func includeSidecar(t *testing.T, workload *unstructured.Unstructured) string {
	t.Helper()
	template := podTemplate(t, workload)
	replaced := map[string]string{}
	insert := func(in map[string]any, key, expression string) {
		own, err := json.Marshal(in[key])
		if err != nil {
			t.Fatal(err)
		}
		in[key] = "INSERT " + key
		if strings.Contains(expression, "%s") {
			expression = fmt.Sprintf(expression, own)
		}
		replaced[`"INSERT `+key+`"`] = expression
	}
	spec := template["spec"].(map[string]any)
	if spec["initContainers"] == nil {
		spec["initContainers"] = []any{}
	}
	if spec["volumes"] == nil {
		spec["volumes"] = []any{}
	}
	insert(spec, "initContainers", "{{ concat (include `cbproxy.container` . | fromYamlArray) (fromJsonArray `%s`) | toJson }}")
	insert(spec, "volumes", "{{ concat (include `cbproxy.volumes` . | fromYamlArray) (fromJsonArray `%s`) | toJson }}")
	metadata, _ := template["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		template["metadata"] = metadata
	}
	if metadata["labels"] == nil {
		metadata["labels"] = map[string]any{}
	}
	insert(metadata, "labels", "{{ merge (include `cbproxy.podLabels` . | fromYaml) (fromJson `%s`) | toJson }}")
	text, err := json.Marshal(workload.Object)
	if err != nil {
		t.Fatal(err)
	}
	result := string(text)
	for placeholder, expression := range replaced {
		result = strings.ReplaceAll(result, placeholder, expression)
	}
	return result
}
