{{/*
cbproxy.objects returns all objects that the sidecar needs besides the pod, as the values say. Include it once in a chart.
*/}}
{{- define "cbproxy.objects" -}}
{{- $objects := list -}}
{{- range $name := list "cbproxy.configMap" "cbproxy.networkPolicy" "cbproxy.podMonitor" -}}
{{- with include $name $ }}{{ $objects = append $objects . }}{{ end -}}
{{- end -}}
{{- join "\n---\n" $objects -}}
{{- end -}}

{{/*
cbproxy.config returns the configuration file. It fails if its ports differ from those of the values.
*/}}
{{- define "cbproxy.config" -}}
{{- $v := include "cbproxy.values" . | fromJson -}}
{{- $text := $v.configText -}}
{{- if not $text -}}
{{- $admin := dict "listen" (printf "0.0.0.0:%d" (int $v.adminPort)) -}}
{{- $defaults := dict "breaker" (dict "abandoned_after" "4s") -}}
{{- $base := dict "shutdown_timeout" "10s" "admin" $admin "defaults" $defaults -}}
{{- $_ := set $base "listen" (printf "127.0.0.1:%d" (int $v.proxyPort)) -}}
{{- $text = include "cbproxy.merge" (list $base $v.config) | fromJson | toYaml -}}
{{- end -}}
{{- $parsed := fromYaml $text -}}
{{- with $parsed.Error }}{{ fail (printf "cbproxy.configText: %s" .) }}{{ end -}}
{{- $admin := kindIs "map" $parsed.admin | ternary $parsed.admin dict -}}
{{- $listen := hasKey $admin "listen" | ternary $admin.listen "127.0.0.1:9901" | toString -}}
{{- $port := int $v.adminPort -}}
{{- if regexMatch "^(127\\.|localhost:|\\[::1\\])" $listen -}}
{{- fail (printf "cbproxy: admin.listen is %s in the configuration, which probes cannot reach; use 0.0.0.0:%d" $listen $port) -}}
{{- else if not (or (contains "$" $listen) (hasSuffix (printf ":%d" $port) $listen)) -}}
{{- fail (printf "cbproxy: admin.listen is %s in the configuration, but cbproxy.adminPort is %d" $listen $port) -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/*
cbproxy.configMap returns the ConfigMap. Its name does not depend on its content: cbproxy reloads an edit, and no pod is
restarted.
*/}}
{{- define "cbproxy.configMap" -}}
{{- $v := include "cbproxy.values" . | fromJson -}}
{{- if and $v.enabled (not $v.existingConfigMap) -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "cbproxy.fullname" . }}-config
  labels:
    {{- include "cbproxy.objectLabels" . | nindent 4 }}
data:
  {{- dict "config.yaml" (include "cbproxy.config" .) | toYaml | nindent 2 }}
{{- end -}}
{{- end -}}

{{/*
cbproxy.networkPolicy returns the NetworkPolicy. The proxy port listens on 127.0.0.1 and is not reachable from outside; the
kubelet's probes come from the node and are not restricted. Ports other than the admin port stay open.
*/}}
{{- define "cbproxy.networkPolicy" -}}
{{- $v := include "cbproxy.values" . | fromJson -}}
{{- if and $v.enabled $v.networkPolicy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "cbproxy.fullname" . }}
  labels:
    {{- include "cbproxy.objectLabels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "cbproxy.podLabels" . | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
    {{- with $v.networkPolicy.from }}
    - from:
        {{- toYaml . | nindent 8 }}
      ports:
        - port: {{ int $v.adminPort }}
    {{- end }}
    - ports:
        - port: 1
          endPort: {{ sub (int $v.adminPort) 1 }}
        - port: {{ add (int $v.adminPort) 1 }}
          endPort: 65535
{{- end -}}
{{- end -}}

{{/*
cbproxy.podMonitor returns the PodMonitor of the Prometheus operator.
*/}}
{{- define "cbproxy.podMonitor" -}}
{{- $v := include "cbproxy.values" . | fromJson -}}
{{- if and $v.enabled $v.podMonitor.enabled -}}
{{- $labels := include "cbproxy.objectLabels" . | fromYaml -}}
{{- $labels = include "cbproxy.merge" (list $labels $v.podMonitor.labels) | fromJson -}}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ include "cbproxy.fullname" . }}
  labels:
    {{- toYaml $labels | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- include "cbproxy.podLabels" . | nindent 6 }}
  podMetricsEndpoints:
    - port: cbproxy-admin
      path: /metrics
{{- end -}}
{{- end -}}
