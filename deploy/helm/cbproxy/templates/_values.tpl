{{/*
cbproxy.values returns the values as JSON. It fails if they are incomplete or contradict each other.
*/}}
{{- define "cbproxy.values" -}}
{{- $root := false -}}
{{- if kindIs "map" . }}{{ $root = and (hasKey . "Values") (hasKey . "Release") (hasKey . "Chart") }}{{ end -}}
{{- if not $root }}{{ fail "cbproxy: its templates need the chart's root context: include \"cbproxy.container\" $" }}{{ end -}}
{{- $v := .Values.cbproxy -}}
{{- if not (kindIs "map" $v) -}}
{{- fail "cbproxy: there are no values under the key cbproxy; the dependency must have no alias, and the key must be a map" -}}
{{- end -}}
{{- if $v.enabled -}}
{{- $version := .Capabilities.KubeVersion.Version -}}
{{- if not (semverCompare ">=1.29.0-0" $version) -}}
{{- fail (printf "cbproxy: native sidecars need Kubernetes 1.29, this is %s (helm template has --kube-version)" $version) -}}
{{- end -}}
{{- with $v.image -}}
{{- if not (or .tag .digest) }}{{ fail "cbproxy.image: set tag or digest" }}{{ end -}}
{{- if and .digest (not (regexMatch "^sha256:[0-9a-f]{64}$" .digest)) -}}
{{- fail (printf "cbproxy.image.digest: want sha256: and 64 hexadecimal digits, got %q" .digest) -}}
{{- end -}}
{{- if regexMatch "(@|:[^/]*$)" .repository -}}
{{- fail (printf "cbproxy.image.repository: %q has a tag or digest, which are values of their own" .repository) -}}
{{- end -}}
{{- end -}}
{{- $given := list -}}
{{- if $v.config }}{{ $given = append $given "config" }}{{ end -}}
{{- if $v.configText }}{{ $given = append $given "configText" }}{{ end -}}
{{- if $v.existingConfigMap }}{{ $given = append $given "existingConfigMap" }}{{ end -}}
{{- if not $given -}}
{{- fail "cbproxy: there is no configuration: set cbproxy.config.routes, cbproxy.configText or cbproxy.existingConfigMap" -}}
{{- else if gt (len $given) 1 -}}
{{- fail (printf "cbproxy: set only one of cbproxy.%s" (join " and cbproxy." $given)) -}}
{{- end -}}
{{- if and $v.config (not $v.config.routes) -}}
{{- fail "cbproxy.config.routes: there is no route" -}}
{{- end -}}
{{- if eq (int $v.proxyPort) (int $v.adminPort) }}{{ fail "cbproxy: proxyPort and adminPort are the same" }}{{ end -}}
{{- end -}}
{{- toJson $v -}}
{{- end -}}

{{/*
cbproxy.merge returns the first map of a list as JSON, with the second merged over it. Unlike mergeOverwrite it can set
false, 0 and "". A null removes the key.
*/}}
{{- define "cbproxy.merge" -}}
{{- $base := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $base $key -}}
{{- else if kindIs "map" $value -}}
{{- $old := kindIs "map" (get $base $key) | ternary (get $base $key) dict -}}
{{- $_ := set $base $key (include "cbproxy.merge" (list $old $value) | fromJson) -}}
{{- else -}}
{{- $_ := set $base $key $value -}}
{{- end -}}
{{- end -}}
{{- toJson $base -}}
{{- end -}}

{{/*
cbproxy.fullname returns the start of the objects' names, which is also the value of a label, so it has at most 63
characters. Two charts of one release have different names.
*/}}
{{- define "cbproxy.fullname" -}}
{{- $v := include "cbproxy.values" . | fromJson -}}
{{- $chart := eq .Release.Name .Chart.Name | ternary "" (printf "-%s" .Chart.Name) -}}
{{- $name := printf "%s%s-cbproxy" .Release.Name $chart | lower | replace "_" "-" -}}
{{- if gt (len $name) 63 -}}
{{- $name = printf "%s-%s" ($name | trunc 52 | trimAll "-.") (sha256sum $name | trunc 10) -}}
{{- end -}}
{{- $v.fullnameOverride | default $name -}}
{{- end -}}

{{- define "cbproxy.objectLabels" -}}
app.kubernetes.io/name: cbproxy
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
