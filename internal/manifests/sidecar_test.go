package manifests

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// workloads has an object of each kind that the component adds cbproxy to, in which $SPEC stands for its pod's spec.
var workloads = map[string]string{
	"Deployment":  `{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: $SPEC}}}`,
	"StatefulSet": `{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: x}, spec: {serviceName: x, selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: $SPEC}, volumeClaimTemplates: [{metadata: {name: db}, spec: {accessModes: [ReadWriteOnce]}}]}}`,
	"DaemonSet":   `{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: x}, spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: $SPEC}}}`,
	"ReplicaSet":  `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: x}, spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: $SPEC}}}`,
	"Job":         `{apiVersion: batch/v1, kind: Job, metadata: {name: x}, spec: {backoffLimit: 2, template: {spec: $SPEC}}}`,
	"CronJob":     `{apiVersion: batch/v1, kind: CronJob, metadata: {name: x}, spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: {metadata: {annotations: {a: b}}, spec: $SPEC}}}}}`,
}

// podSpecs are the specs of pods without cbproxy. The component must keep all that they set.
var podSpecs = map[string]string{
	"minimal": `{containers: [{name: a, image: a}]}`,
	"with everything that a patch could overwrite": `{
		containers: [{name: a, image: a, args: [b], env: [{name: GOMEMLIMIT, value: 1GiB}, {name: REDIS_URL, value: "redis://mine"}], ports: [{name: admin, containerPort: 9000}],
			securityContext: {runAsUser: 7}, volumeMounts: [{name: data, mountPath: /var/lib/cbproxy}]}, {name: b, image: b}],
		initContainers: [{name: migrate, image: m}, {name: mesh, image: e, restartPolicy: Always}],
		volumes: [{name: data, emptyDir: {sizeLimit: 1Mi}}, {name: config, configMap: {name: mine}}],
		terminationGracePeriodSeconds: 7, enableServiceLinks: true, shareProcessNamespace: true, automountServiceAccountToken: true, restartPolicy: OnFailure,
		securityContext: {fsGroup: 2000, fsGroupChangePolicy: OnRootMismatch, supplementalGroups: [5], runAsUser: 0, seccompProfile: {type: Localhost, localhostProfile: p.json}},
		hostAliases: [{ip: 10.0.0.1, hostnames: [h]}], dnsPolicy: None, priorityClassName: high, tolerations: [{operator: Exists}], nodeSelector: {a: b}}`,
}

// renderWorkload returns the object with the name x of a kustomization in memory, which has the component if withSidecar.
func renderWorkload(t *testing.T, object string, withSidecar bool) *unstructured.Unstructured {
	t.Helper()
	fs := filesys.MakeFsInMemory()
	write := func(path, content string) {
		if err := fs.WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir("../../k8s/sidecar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join("../../k8s/sidecar", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		write("/sidecar/"+f.Name(), string(content))
	}
	kustomization := "resources: [object.yaml]\n"
	if withSidecar {
		kustomization += "components: [../sidecar]\n"
	}
	write("/app/kustomization.yaml", kustomization)
	write("/app/object.yaml", strings.ReplaceAll(object, "\t", " "))
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, "/app")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range resources.Resources() {
		if r.GetName() != "x" {
			continue
		}
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(text, &u.Object); err != nil {
			t.Fatal(err)
		}
		return u
	}
	t.Fatal("the object is not in the output")
	return nil
}

// podTemplate returns the pod template of a workload, which the caller may change.
func podTemplate(t *testing.T, u *unstructured.Unstructured) map[string]any {
	t.Helper()
	path := []string{"spec", "template"}
	if u.GetKind() == "CronJob" {
		path = []string{"spec", "jobTemplate", "spec", "template"}
	}
	at := u.Object
	for _, key := range path {
		at = at[key].(map[string]any)
	}
	return at
}

// cutNamed removes the elements with the names from a list of the map, and the list if it becomes empty. It returns them.
func cutNamed(in map[string]any, list string, names ...string) (cut []any) {
	var rest []any
	all, _ := in[list].([]any)
	for _, element := range all {
		if slices.Contains(names, element.(map[string]any)["name"].(string)) {
			cut = append(cut, element)
		} else {
			rest = append(rest, element)
		}
	}
	if in[list] = rest; len(rest) == 0 {
		delete(in, list)
	}
	return cut
}

// cutSidecar removes what the component may add to a pod template: a container, two volumes and a label. It returns the
// container and the volumes.
func cutSidecar(t *testing.T, template map[string]any) map[string]any {
	t.Helper()
	spec := template["spec"].(map[string]any)
	added := map[string]any{
		"initContainers": cutNamed(spec, "initContainers", "cbproxy"),
		"volumes":        cutNamed(spec, "volumes", "cbproxy-config", "cbproxy-data"),
	}
	metadata, _ := template["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	if labels["cbproxy"] != "sidecar" {
		t.Errorf("the pods have the labels %v", labels)
	}
	if delete(labels, "cbproxy"); len(labels) == 0 {
		delete(metadata, "labels")
	}
	if len(metadata) == 0 {
		delete(template, "metadata")
	}
	return added
}

// The component adds the same container and volumes to each kind of workload, and changes nothing else.
func TestSidecarChangesNothingElse(t *testing.T) {
	want := cutSidecar(t, podTemplate(t, renderWorkload(t, strings.ReplaceAll(workloads["Deployment"], "$SPEC", podSpecs["minimal"]), true)))
	server := newCoreAPI(t)
	for kind, workload := range workloads {
		for name, spec := range podSpecs {
			t.Run(kind+" "+name, func(t *testing.T) {
				object := strings.ReplaceAll(workload, "$SPEC", spec)
				got, before := renderWorkload(t, object, true), renderWorkload(t, object, false)
				if err := server.create(got); err != nil {
					t.Error(err)
				}
				if added := cutSidecar(t, podTemplate(t, got)); !reflect.DeepEqual(added, want) {
					t.Errorf("added  %v\nwanted %v", added, want)
				}
				if !reflect.DeepEqual(got.Object, before.Object) {
					t.Errorf("got    %v\nbefore %v", got.Object, before.Object)
				}
			})
		}
	}
}

// The sidecar is the first init container, because the others may call the services, too.
func TestSidecarStartsFirst(t *testing.T) {
	for kind, workload := range workloads {
		u := renderWorkload(t, strings.ReplaceAll(workload, "$SPEC", podSpecs["with everything that a patch could overwrite"]), true)
		var names []any
		for _, c := range podTemplate(t, u)["spec"].(map[string]any)["initContainers"].([]any) {
			names = append(names, c.(map[string]any)["name"])
		}
		if want := []any{"cbproxy", "migrate", "mesh"}; !reflect.DeepEqual(names, want) {
			t.Errorf("%s: init containers %v, want %v", kind, names, want)
		}
	}
}

// The label cbproxy: none excludes a workload.
func TestSidecarIsNotAddedToExcludedWorkloads(t *testing.T) {
	for kind, workload := range workloads {
		object := strings.ReplaceAll(workload, "$SPEC", podSpecs["minimal"])
		object = strings.Replace(object, "metadata: {name: x}", "metadata: {name: x, labels: {cbproxy: none}}", 1)
		if got, want := renderWorkload(t, object, true), renderWorkload(t, object, false); !reflect.DeepEqual(got.Object, want.Object) {
			t.Errorf("%s: got %v, want %v", kind, got.Object, want.Object)
		}
	}
}

// typedPods returns the pod templates of all kinds with the sidecar.
func typedPods(t *testing.T) map[string]core.PodTemplateSpec {
	t.Helper()
	pods := map[string]core.PodTemplateSpec{}
	for kind, workload := range workloads {
		u := renderWorkload(t, strings.ReplaceAll(workload, "$SPEC", podSpecs["minimal"]), true)
		convert := func(to any) {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, to); err != nil {
				t.Fatal(err)
			}
		}
		switch kind {
		case "CronJob":
			var c batch.CronJob
			convert(&c)
			pods[kind] = c.Spec.JobTemplate.Spec.Template
		case "Job":
			var j batch.Job
			convert(&j)
			pods[kind] = j.Spec.Template
		default: // the same shape
			var d apps.Deployment
			convert(&d)
			pods[kind] = d.Spec.Template
		}
	}
	return pods
}

// A pod is complete when its other containers are, and the sidecar needs nothing of the pod: neither a group for its
// volume, nor a seccomp profile, nor a grace period longer than Kubernetes' default.
func TestSidecarNeedsNothingOfThePod(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for kind, pod := range typedPods(t) {
		sidecar := pod.Spec.InitContainers[0]
		if sidecar.RestartPolicy == nil || *sidecar.RestartPolicy != core.ContainerRestartPolicyAlways {
			t.Errorf("%s: restartPolicy %v: the pod never starts", kind, sidecar.RestartPolicy)
		}
		pod.Spec.Containers = []core.Container{*sidecar.DeepCopy()} // the standard applies to all containers
		pod.Spec.Containers[0].RestartPolicy = nil
		for _, r := range evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec) {
			if !r.Allowed {
				t.Errorf("%s: %s: %s", kind, r.ForbiddenReason, r.ForbiddenDetail)
			}
		}
		for _, v := range pod.Spec.Volumes {
			if v.Name == "cbproxy-data" && v.EmptyDir == nil {
				t.Errorf("%s: only an emptyDir is writable by every user: %+v", kind, v)
			}
		}
	}
}
