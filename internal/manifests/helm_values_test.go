package manifests

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	batch "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// at returns the value at a path of keys and indexes, or nil.
func at(u *unstructured.Unstructured, path string) any {
	if u == nil {
		return nil
	}
	var v any = u.Object
	for key := range strings.SplitSeq(path, "/") {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// Each value has the effect that the chart's page describes.
func TestHelmValuesTakeEffect(t *testing.T) {
	const (
		deployment = "Deployment orchestrator"
		job        = "CronJob orchestrator-nightly"
		policy     = "NetworkPolicy orchestrator-cbproxy"
		monitor    = "PodMonitor orchestrator-cbproxy"
		configMap  = "ConfigMap orchestrator-cbproxy-config"
		pod        = "spec/template/spec/"
		sidecar    = pod + "initContainers/0/"
	)
	for name, c := range map[string]struct {
		values string
		object string
		want   map[string]string // path to value, in YAML
	}{
		"no digest": {"cbproxy: {image: {digest: ''}}", deployment, map[string]string{sidecar + "image": "registry.example.com/cbproxy:1.0.0"}},
		"no tag": {"cbproxy: {image: {repository: 'registry.example.com:5000/cbproxy', tag: ''}}", deployment,
			map[string]string{sidecar + "image": "registry.example.com:5000/cbproxy@sha256:" + strings.Repeat("0", 64)}},
		"pull policy": {"cbproxy: {image: {pullPolicy: Always}}", deployment, map[string]string{sidecar + "imagePullPolicy": "Always"}},
		"other ports": {"cbproxy: {proxyPort: 9000, adminPort: 9001, podMonitor: {enabled: true}}", deployment,
			map[string]string{sidecar + "ports": "[{name: cbproxy-admin, containerPort: 9001}]", pod + "containers/0/env/0/value": "http://127.0.0.1:9000/notify"}},
		"ports of the policy": {"cbproxy: {adminPort: 9001}", policy, map[string]string{"spec/ingress/0/ports": "[{port: 9001}]",
			"spec/ingress/1/ports": "[{port: 1, endPort: 9000}, {port: 9002, endPort: 65535}]"}},
		"other peers": {"cbproxy: {networkPolicy: {from: [{podSelector: {}}]}}", policy, map[string]string{"spec/ingress/0/from": "[{podSelector: {}}]"}},
		"no peers":    {"cbproxy: {networkPolicy: {from: []}}", policy, map[string]string{"spec/ingress/0/ports/0/port": "1", "spec/ingress/1": "null"}},
		"no policy":   {"cbproxy: {networkPolicy: {enabled: false}}", policy, map[string]string{"kind": "null"}},
		"no monitor":  {"", monitor, map[string]string{"kind": "null"}},
		"secrets": {"cbproxy: {adminSecret: a, redisSecret: b}", deployment,
			map[string]string{sidecar + "env/2/valueFrom/secretKeyRef/name": "a", sidecar + "env/3/valueFrom/secretKeyRef/name": "b"}},
		"resources": {"cbproxy: {resources: {requests: {cpu: 1}, limits: {memory: 1Gi}}}", deployment,
			map[string]string{sidecar + "resources": "{requests: {cpu: 1, memory: 64Mi}, limits: {memory: 1Gi}}"}},
		"no resources":  {"cbproxy: {resources: {requests: null}}", deployment, map[string]string{sidecar + "resources": "{limits: {memory: 256Mi}}"}},
		"larger volume": {"cbproxy: {data: {sizeLimit: 9Gi}}", deployment, map[string]string{pod + "volumes/1": "{name: cbproxy-data, emptyDir: {sizeLimit: 9Gi}}"}},
		"no limit":      {"cbproxy: {data: {sizeLimit: ''}}", deployment, map[string]string{pod + "volumes/1": "{name: cbproxy-data, emptyDir: {}}"}},
		"a claim": {"cbproxy: {data: {existingClaim: c}}", deployment,
			map[string]string{pod + "volumes/1": "{name: cbproxy-data, persistentVolumeClaim: {claimName: c}}"}},
		"arguments": {"cbproxy: {extraArgs: [--log-format=json]}", deployment,
			map[string]string{sidecar + "args": "[run, --config, /etc/cbproxy/config.yaml, --log-format=json]"}},
		"variables": {"cbproxy: {extraEnv: [{name: GOMEMLIMIT, value: 1GiB}, {name: A, value: ''}]}", deployment,
			map[string]string{sidecar + "env/1": "{name: GOMEMLIMIT, value: 1GiB}", sidecar + "env/4": "{name: A, value: ''}", sidecar + "env/5": "null"}},
		"mounts": {"cbproxy: {extraVolumeMounts: [{name: tmp, mountPath: /ca}]}", deployment,
			map[string]string{sidecar + "volumeMounts/2": "{name: tmp, mountPath: /ca}"}},
		"anything of the container": {"cbproxy: {container: {startupProbe: {failureThreshold: 0, httpGet: {scheme: HTTPS}}, livenessProbe: null, securityContext: {readOnlyRootFilesystem: false}}}",
			deployment, map[string]string{sidecar + "startupProbe": "{httpGet: {path: /readyz, port: cbproxy-admin, scheme: HTTPS}, periodSeconds: 1, failureThreshold: 0}",
				sidecar + "livenessProbe": "null", sidecar + "securityContext/readOnlyRootFilesystem": "false", sidecar + "securityContext/runAsUser": "65532"}},
		"another ConfigMap": {"cbproxy: {config: null, existingConfigMap: mine}", deployment, map[string]string{pod + "volumes/0": "{name: cbproxy-config, configMap: {name: mine}}"}},
		"no own ConfigMap":  {"cbproxy: {config: null, existingConfigMap: mine}", configMap, map[string]string{"kind": "null"}},
		"another name":      {"cbproxy: {fullnameOverride: proxy}", deployment, map[string]string{pod + "volumes/0/configMap/name": "proxy-config"}},
		"disabled":          {"cbproxy: {enabled: false, config: null}", deployment, map[string]string{pod + "initContainers": "null", pod + "volumes/1": "null", pod + "containers/0/env": "null"}},
		"no job":            {"", job, map[string]string{"kind": "null"}},
		"the job": {"nightly: {enabled: true}", job, map[string]string{"spec/jobTemplate/spec/template/spec/initContainers/0/restartPolicy": "Always",
			"spec/jobTemplate/spec/template/spec/volumes/1/name": "cbproxy-data", "spec/jobTemplate/spec/template/metadata/labels/cbproxy": "sidecar"}},
	} {
		t.Run(name, func(t *testing.T) {
			object := renderExample(t, c.values)[c.object]
			for path, text := range c.want {
				var want any
				if err := yaml.Unmarshal([]byte(text), &want); err != nil {
					t.Fatal(err)
				}
				if got := at(object, path); !reflect.DeepEqual(got, want) {
					t.Errorf("%s is %v, want %v", path, got, want)
				}
			}
		})
	}
}

// A configuration in values is the default one with the values' keys in place of its own, even false and 0, and with
// integers as they are.
func TestHelmConfigIsMergedOverDefault(t *testing.T) {
	objects := renderExample(t, `cbproxy: {config: {listen: "[::1]:8080", admin: {protect_reads: false}, defaults: {breaker: {abandoned_after: 0, fail_max: 7}, max_body: 1048576000},
		routes: {rag_service: {upstream: "http://{{ .Release.Name }}"}, vms_service: null}, shutdown_timeout: null}}`)
	text, _ := at(objects["ConfigMap orchestrator-cbproxy-config"], "data/config.yaml").(string)
	for _, line := range []string{"listen: '[::1]:8080'", "  listen: 0.0.0.0:9901", "  protect_reads: false", "    abandoned_after: 0", "    fail_max: 7", "  max_body: 1048576000", "    upstream: http://{{ .Release.Name }}"} {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("%q is not in the configuration:\n%s", line, text)
		}
	}
	if strings.Contains(text, "vms_service") || strings.Contains(text, "shutdown_timeout") {
		t.Errorf("keys that are null are in the configuration:\n%s", text)
	}
}

// An edit of the configuration restarts no pod: only the ConfigMap changes, and cbproxy reloads it.
func TestHelmConfigEditChangesOnlyConfigMap(t *testing.T) {
	before := renderExample(t, "nightly: {enabled: true}")
	after := renderExample(t, "{nightly: {enabled: true}, cbproxy: {config: {routes: {rag_service: {timeout: 9s}}}}}")
	for id := range before {
		if changed := !reflect.DeepEqual(before[id], after[id]); changed != strings.HasPrefix(id, "ConfigMap ") {
			t.Errorf("%s has changed: %t", id, changed)
		}
	}
}

// The example meets the restricted Pod Security Standard, also as a job.
func TestHelmExampleMeetsRestrictedPodSecurityStandard(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	objects := renderExample(t, "nightly: {enabled: true}")
	for _, id := range []string{"Deployment orchestrator", "CronJob orchestrator-nightly"} {
		var template batch.JobTemplateSpec // its spec.template is that of a Deployment, too
		from := objects[id].Object
		if strings.HasPrefix(id, "CronJob ") {
			from = at(objects[id], "spec/jobTemplate").(map[string]any)
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(from, &template); err != nil {
			t.Fatal(err)
		}
		pod := template.Spec.Template
		if len(pod.Spec.InitContainers) != 1 || len(pod.Spec.Containers) != 1 {
			t.Fatalf("%s has the pod %+v", id, pod)
		}
		for _, r := range evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec) {
			if !r.Allowed {
				t.Errorf("%s: %s: %s", id, r.ForbiddenReason, r.ForbiddenDetail)
			}
		}
	}
}

// Mistakes in the values are errors that say what to do.
func TestHelmMistakesAreExplained(t *testing.T) {
	folder := exampleChart(t)
	for values, want := range map[string]string{
		"cbproxy: {config: null}":                                              "there is no configuration: set cbproxy.config.routes, cbproxy.configText or cbproxy.existingConfigMap",
		"cbproxy: {config: {routes: null, listen: '127.0.0.1:8080'}}":          "cbproxy.config.routes: there is no route",
		"cbproxy: {existingConfigMap: mine}":                                   "set only one of cbproxy.config and cbproxy.existingConfigMap",
		"cbproxy: {config: null, configText: 'a: b', existingConfigMap: mine}": "set only one of cbproxy.configText and cbproxy.existingConfigMap",
		"cbproxy: {config: null, configText: 'admin: ['}":                      "cbproxy.configText: error converting YAML to JSON",
		"cbproxy: {config: null, configText: 'admin: null'}":                   "admin.listen is 127.0.0.1:9901 in the configuration",
		"cbproxy: {config: null, configText: '[]'}":                            "cbproxy.configText: error unmarshaling JSON",
		"cbproxy: {config: null, configText: 'routes: {}'}":                    "admin.listen is 127.0.0.1:9901 in the configuration, which probes cannot reach; use 0.0.0.0:9901",
		"cbproxy: {config: {admin: {listen: '0.0.0.0:9000'}}}":                 "admin.listen is 0.0.0.0:9000 in the configuration, but cbproxy.adminPort is 9901",
		"cbproxy: {config: {listen: '127.0.0.1:9000'}}":                        "listen is 127.0.0.1:9000 in the configuration, but cbproxy.proxyPort is 8080",
		"cbproxy: {proxyPort: 9901}":                                           "proxyPort and adminPort are the same",
		"cbproxy: {image: {digest: abc}}":                                      `cbproxy.image.digest: want sha256: and 64 hexadecimal digits, got "abc"`,
		"cbproxy: {image: {tag: '', digest: ''}}":                              "cbproxy.image: set tag or digest",
		"cbproxy: {image: {repository: 'a/b:1.0'}}":                            `cbproxy.image.repository: "a/b:1.0" has a tag or digest, which are values of their own`,
		"cbproxy: {image: {tag: 1.0}}":                                         "at '/image/tag': got number, want string",
		"cbproxy: {image: {registry: a}}":                                      "at '/image': additional properties 'registry' not allowed",
		"cbproxy: {ressources: {}}":                                            "at '': additional properties 'ressources' not allowed",
		"cbproxy: {resources: {memory: 1Gi}}":                                  "at '/resources': additional properties 'memory' not allowed",
		"cbproxy: {networkPolicy: {from: {}}}":                                 "at '/networkPolicy/from': got object, want array",
		"cbproxy: {image: null}":                                               "missing property 'image'",
		"cbproxy: {data: null, extraArgs: null}":                               "missing properties 'data', 'extraArgs'",
		"cbproxy: {image: {repository: null}}":                                 "at '/image': missing property 'repository'",
		"cbproxy: {config: [a]}":                                               "at '/config': got array, want object",
		"cbproxy: {urls: {A: rag}}":                                            "at '/urls/A': 'rag' does not match pattern",
		"cbproxy: {urls: {A-B: /rag}}":                                         "at '/urls': additional properties 'A-B' not allowed",
		"cbproxy: {adminPort: 65535}":                                          "at '/adminPort': maximum: got 65,535, want 65,534",
		"cbproxy: {extraEnv: [{name: A, value: 1}]}":                           "at '/extraEnv/0/value': got number, want string",
	} {
		_, err := renderChart(t, loadChart(t, folder), "orchestrator", parseValues(t, values))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", values, err, want)
		}
	}
}

// A template that is included with something else than the root context is explained, too.
func TestHelmContextMustBeRoot(t *testing.T) {
	for _, context := range []string{`"x"`, ".Values", ".Values.cbproxy"} {
		folder := userChart(t, "shop", map[string]string{
			"templates/x.yaml": `{{ include "cbproxy.container" ` + context + ` }}`,
			"values.yaml":      "cbproxy: {existingConfigMap: mine}",
		})
		_, err := renderChart(t, loadChart(t, folder), "blue", nil)
		if want := `its templates need the chart's root context: include "cbproxy.container" $`; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", context, err)
		}
	}
}

// The schema has exactly the values of values.yaml, and the chart's page describes each.
func TestHelmValuesAreInSchemaAndDocumented(t *testing.T) {
	read := func(name string) []byte {
		content, err := os.ReadFile("../../deploy/helm/cbproxy/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	var values map[string]any
	var schema struct {
		Properties map[string]struct{ Properties map[string]any }
	}
	for name, into := range map[string]any{"values.yaml": &values, "values.schema.json": &schema} {
		if err := yaml.Unmarshal(read(name), into); err != nil {
			t.Fatal(err)
		}
	}
	page := string(read("README.md"))
	delete(schema.Properties, "global") // Helm adds it to the values of each dependency
	if got, want := slices.Sorted(maps.Keys(schema.Properties)), slices.Sorted(maps.Keys(values)); !slices.Equal(got, want) {
		t.Errorf("the schema has  %v\nvalues.yaml has %v", got, want)
	}
	for name, value := range values {
		names := []string{name}
		if within, ok := value.(map[string]any); ok && name != "resources" && len(within) > 0 {
			names = nil
			for key := range within {
				names = append(names, name+"."+key)
				if schema.Properties[name].Properties[key] == nil {
					t.Errorf("%s.%s is not in the schema", name, key)
				}
			}
		}
		for _, name := range names {
			if !strings.Contains(page, fmt.Sprintf("`%s`", name)) {
				t.Errorf("README.md does not describe %s", name)
			}
		}
	}
}
