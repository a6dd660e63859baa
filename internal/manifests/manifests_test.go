package manifests

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// buildObjects returns the objects that `kubectl kustomize` creates from a folder of k8s/, decoded strictly: unknown keys are
// errors.
func buildObjects(t *testing.T, folder string) (objects []runtime.Object) {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("../../k8s", folder))
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{apps.AddToScheme, core.AddToScheme, networking.AddToScheme, monitoring.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			t.Errorf("%s %s: %v", r.GetKind(), r.GetName(), err)
			continue
		}
		objects = append(objects, object)
	}
	return objects
}

// only returns the only object of type T.
func only[T runtime.Object](t *testing.T, objects []runtime.Object) (found T) {
	t.Helper()
	n := 0
	for _, o := range objects {
		if o, ok := o.(T); ok {
			found = o
			n++
		}
	}
	if n != 1 {
		t.Fatalf("%d objects of type %T, want 1", n, found)
	}
	return found
}

func TestExampleMeetsRestrictedPodSecurityStandard(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	pod := only[*apps.Deployment](t, buildObjects(t, "example")).Spec.Template
	for _, r := range evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec) {
		if !r.Allowed {
			t.Errorf("%s: %s", r.ForbiddenReason, r.ForbiddenDetail)
		}
	}
}

// The sidecar starts before the orchestrator and stops after it, and all of the orchestrator's URLs lead to it.
func TestExampleAddsSidecarAndChangesOnlyURLs(t *testing.T) {
	objects := buildObjects(t, "example")
	pod := only[*apps.Deployment](t, objects).Spec.Template.Spec
	if len(pod.InitContainers) != 1 || len(pod.Containers) != 1 {
		t.Fatalf("%d init containers, %d containers", len(pod.InitContainers), len(pod.Containers))
	}
	sidecar := pod.InitContainers[0]
	if sidecar.RestartPolicy == nil || *sidecar.RestartPolicy != core.ContainerRestartPolicyAlways || sidecar.StartupProbe == nil || sidecar.ReadinessProbe == nil || sidecar.LivenessProbe == nil {
		t.Errorf("the sidecar: %+v", sidecar)
	}
	config := only[*core.ConfigMap](t, objects).Data["config.yaml"]
	urls := 0
	for _, e := range pod.Containers[0].Env {
		if !strings.HasSuffix(e.Name, "_URL") {
			continue
		}
		urls++
		if !strings.HasPrefix(e.Value, "http://127.0.0.1:8080/") {
			t.Errorf("%s is %s", e.Name, e.Value)
		}
	}
	if services := strings.Count(config, "upstream: http://"); urls != 5 || services != urls {
		t.Errorf("%d URLs, %d services", urls, services)
	}
	mounted := map[string]bool{}
	for _, v := range pod.Volumes {
		mounted[v.Name] = true
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		if c.SecurityContext == nil || c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("%s has a writable root file system", c.Name)
		}
		for _, m := range c.VolumeMounts {
			if !mounted[m.Name] {
				t.Errorf("%s mounts %s, which is not a volume", c.Name, m.Name)
			}
		}
	}
}

// cbproxy accepts the configuration in the environment of a pod, and shutdown_timeout is shorter than the default of the
// termination grace period.
func TestExampleConfigurationIsValid(t *testing.T) {
	objects := buildObjects(t, "example")
	file := filepath.Join(t.TempDir(), "config.yaml")
	config := only[*core.ConfigMap](t, objects).Data["config.yaml"]
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	check := exec.CommandContext(t.Context(), "go", "run", "./cmd/cbproxy", "check", "--config", file)
	check.Dir = "../.." // the main module
	// By default a pod has these variables of each Service in its namespace (enableServiceLinks).
	check.Env = os.Environ()
	for _, name := range []string{"KUBERNETES", "CBPROXY", "CBPROXY_ADMIN", "REDIS", "RAG", "ORCHESTRATOR", "CIRCUIT_BREAKER", "CIRCUIT_BREAKER_RAG", "CIRCUIT_BREAKER_RAG_TIMEOUT"} {
		check.Env = append(check.Env, name+"_SERVICE_HOST=10.96.0.7", name+"_SERVICE_PORT=80", name+"_SERVICE_PORT_HTTP=80", name+"_PORT=tcp://10.96.0.7:80",
			name+"_PORT_80_TCP=tcp://10.96.0.7:80", name+"_PORT_80_TCP_PROTO=tcp", name+"_PORT_80_TCP_PORT=80", name+"_PORT_80_TCP_ADDR=10.96.0.7")
	}
	var output bytes.Buffer
	check.Stdout, check.Stderr = &output, &output
	if err := check.Run(); err != nil {
		t.Errorf("%v\n%s", err, output.String())
	}
	var c composeConfig
	if err := yaml.Unmarshal([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	// The component does not set the pod's termination grace period, which is 30 s by default.
	if drain, err := time.ParseDuration(c.ShutdownTimeout); err != nil || drain > 20*time.Second {
		t.Errorf("shutdown_timeout %s leaves the other containers too little of the termination grace period", c.ShutdownTimeout)
	}
}

// Only Prometheus can reach the admin port; all other ports stay open.
func TestNetworkPolicyRestrictsOnlyAdminPort(t *testing.T) {
	rules := only[*networking.NetworkPolicy](t, buildObjects(t, "example")).Spec.Ingress
	openToAll := func(port int32) bool {
		for _, r := range rules {
			if len(r.From) > 0 {
				continue
			}
			for _, p := range r.Ports {
				first := p.Port.IntVal
				last := first
				if p.EndPort != nil {
					last = *p.EndPort
				}
				if first <= port && port <= last {
					return true
				}
			}
		}
		return false
	}
	for _, port := range []int32{1, 80, 8000, 8080, 9900, 9902, 65535} {
		if !openToAll(port) {
			t.Errorf("port %d is closed", port)
		}
	}
	if openToAll(9901) {
		t.Error("the admin port is open")
	}
}

// The operator's rules are the same as those of the rule files.
func TestPrometheusRuleMatchesRuleFiles(t *testing.T) {
	objects := buildObjects(t, "operator")
	var want []any
	for _, name := range []string{"recording.yaml", "alerts.yaml"} {
		content, err := os.ReadFile(filepath.Join("../../monitoring", name))
		if err != nil {
			t.Fatal(err)
		}
		var rules struct{ Groups []any }
		if err := yaml.Unmarshal(content, &rules); err != nil {
			t.Fatal(err)
		}
		want = append(want, rules.Groups...)
	}
	content, err := yaml.Marshal(only[*monitoring.PrometheusRule](t, objects).Spec.Groups)
	if err != nil {
		t.Fatal(err)
	}
	var got []any
	if err := yaml.Unmarshal(content, &got); err != nil {
		t.Fatal(err)
	}
	if len(want) < 5 || !reflect.DeepEqual(got, want) {
		t.Error("prometheusrule.yaml is stale: go run ./monitoring/prometheusrule >monitoring/prometheusrule.yaml")
	}
}

// The PodMonitor selects the sidecars by label and port, and Grafana the dashboard by its label.
func TestPodMonitorSelectsSidecars(t *testing.T) {
	objects := buildObjects(t, "operator")
	pods := only[*monitoring.PodMonitor](t, objects).Spec
	sidecar := only[*apps.Deployment](t, buildObjects(t, "example")).Spec.Template
	if !labels.SelectorFromSet(pods.Selector.MatchLabels).Matches(labels.Set(sidecar.Labels)) || len(pods.Selector.MatchLabels) == 0 {
		t.Errorf("%v does not select pods with %v", pods.Selector, sidecar.Labels)
	}
	port := pods.PodMetricsEndpoints[0].Port
	if ports := sidecar.Spec.InitContainers[0].Ports; port == nil || len(ports) != 1 || ports[0].Name != *port {
		t.Errorf("port %v, the sidecar has %v", port, ports)
	}
	dashboard := only[*core.ConfigMap](t, objects)
	if dashboard.Labels["grafana_dashboard"] != "1" || !json.Valid([]byte(dashboard.Data["grafana-dashboard.json"])) {
		t.Errorf("the dashboard's ConfigMap has labels %v", dashboard.Labels)
	}
}
