package manifests

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/applyconfigurations"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// kustomizations returns the folders of the repository that `kubectl apply -k` accepts.
func kustomizations(t *testing.T) (folders []string) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "kustomization.yaml" {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var k struct{ Kind string }
		if err := yaml.Unmarshal(content, &k); err != nil {
			return err
		}
		if k.Kind == "Kustomization" { // a Component is only included by kustomizations
			folders = append(folders, filepath.Dir(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return folders
}

// kustomizeObjects returns the objects of a kustomization.
func kustomizeObjects(t *testing.T, folder string) (objects []*unstructured.Unstructured) {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(text, &u.Object); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, u)
	}
	return objects
}

// coreAPI validates objects of built-in kinds like an API server for a server-side apply.
type coreAPI struct{ scheme *runtime.Scheme }

func newCoreAPI(t *testing.T) coreAPI {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{apps.AddToScheme, batch.AddToScheme, core.AddToScheme, networking.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return coreAPI{scheme}
}

// create rejects unknown fields, values of a wrong type, and list elements with the same key, such as two containers or
// variables with one name or two equal ports.
func (a coreAPI) create(u *unstructured.Unstructured) error {
	typed, err := a.scheme.New(u.GroupVersionKind())
	if err != nil {
		return err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, typed, true); err != nil {
		return err
	}
	_, err = applyconfigurations.NewTypeConverter(a.scheme).ObjectToTyped(u)
	return err
}

// An API server accepts every object of the manifests.
func TestAPIServerAcceptsAllObjects(t *testing.T) {
	operator, core := newOperatorAPI(t, "PrometheusRule", "PodMonitor", "ServiceMonitor"), newCoreAPI(t)
	folders := kustomizations(t)
	if len(folders) < 3 {
		t.Errorf("only these folders are tested: %v", folders)
	}
	for _, folder := range folders {
		ids := map[string]bool{}
		for _, u := range kustomizeObjects(t, folder) {
			id := u.GetAPIVersion() + " " + u.GetKind() + " " + u.GetNamespace() + "/" + u.GetName()
			if ids[id] {
				t.Errorf("%s has %s twice", folder, id)
			}
			ids[id] = true
			var err error
			if operator.serves(u) {
				err = operator.create(t, u)
			} else {
				err = core.create(u)
			}
			if err != nil {
				t.Errorf("%s: %s: %v", folder, id, err)
			}
		}
	}
}

// The checks of this package detect errors that an API server rejects.
func TestBrokenObjectsAreRejected(t *testing.T) {
	operator, core := newOperatorAPI(t, "PrometheusRule", "PodMonitor", "Prometheus"), newCoreAPI(t)
	for name, c := range map[string]struct{ object, want string }{
		"rule groups with the same name": {`{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: x}, spec: {groups: [{name: a}, {name: b}, {name: a}]}}`,
			`spec.groups[2]: Duplicate value: {"name":"a"}`},
		"a rule group without a name": {`{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: x}, spec: {groups: [{rules: []}]}}`,
			`spec.groups[0].name: Required value`},
		"a rule without an expression": {`{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: x}, spec: {groups: [{name: a, rules: [{alert: A}]}]}}`,
			`spec.groups[0].rules[0].expr: Required value`},
		"a bad duration": {`{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: x}, spec: {groups: [{name: a, rules: [{alert: A, expr: "1", for: soon}]}]}}`,
			`spec.groups[0].rules[0].for: Invalid value: "soon"`},
		"an unknown field": {`{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: x}, spec: {groups: [{name: a, rules: [{alert: A, expr: "1", severity: info}]}]}}`,
			`unknown fields spec.groups[0].rules[0].severity`},
		"an unknown field of metadata": {`{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: x, label: {}}, spec: {}}`,
			`unknown fields metadata.label`},
		"a bad name": {`{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: X_}, spec: {}}`,
			`metadata.name: Invalid value: "X_"`},
		"a monitor without a selector": {`{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {name: x}, spec: {podMetricsEndpoints: [{port: a}]}}`,
			`spec.selector: Required value`},
		"a port out of range": {`{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {name: x}, spec: {selector: {}, podMetricsEndpoints: [{portNumber: 70000}]}}`,
			`spec.podMetricsEndpoints[0].portNumber: Invalid value: 70000`},
		"containers with one name":    {deployment(`containers: [{name: a}, {name: a}]`), `.spec.template.spec.containers: duplicate entries for key [name="a"]`},
		"init containers of one name": {deployment(`initContainers: [{name: a}, {name: a}]`), `.spec.template.spec.initContainers: duplicate entries for key [name="a"]`},
		"volumes of one name":         {deployment(`volumes: [{name: a}, {name: a}]`), `.spec.template.spec.volumes: duplicate entries for key [name="a"]`},
		"variables with one name":     {deployment(`containers: [{name: a, env: [{name: A}, {name: A}]}]`), `env: duplicate entries for key [name="A"]`},
		"equal ports of a container":  {deployment(`containers: [{name: a, ports: [{containerPort: 1}, {containerPort: 1}]}]`), `ports: duplicate entries for key [containerPort=1,protocol="TCP"]`},
		"two mounts at one path":      {deployment(`containers: [{name: a, volumeMounts: [{name: a, mountPath: /a}, {name: b, mountPath: /a}]}]`), `volumeMounts: duplicate entries for key [mountPath="/a"]`},
		"an unknown field of a pod":   {deployment(`container: []`), `unknown field "spec.template.spec.container"`},
		"a value of the wrong type":   {deployment(`terminationGracePeriodSeconds: soon`), `unrecognized type: int64`},
		"equal ports of a service":    {`{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{name: a, port: 1}, {name: b, port: 1}]}}`, `.spec.ports: duplicate entries for key [port=1,protocol="TCP"]`},
		"an object of unknown kind":   {`{apiVersion: v1, kind: Sidecar, metadata: {name: x}}`, `no kind "Sidecar"`},
		"values that a CEL rule excludes": {`{apiVersion: monitoring.coreos.com/v1, kind: Prometheus, metadata: {name: x}, spec: {shardingStrategy: {topology: {values: [a]}}}}`,
			`topology can only be defined when mode is set to 'Topology'`},
	} {
		t.Run(name, func(t *testing.T) {
			u := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(c.object), &u.Object); err != nil {
				t.Fatal(err)
			}
			var err error
			if operator.serves(u) {
				err = operator.create(t, u)
			} else {
				err = core.create(u)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// deployment returns a Deployment with the pod spec.
func deployment(spec string) string {
	return `{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {template: {spec: {` + spec + `}}}}`
}
