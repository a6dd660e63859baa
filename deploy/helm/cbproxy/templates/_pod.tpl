{{/*
cbproxy.podLabels returns the labels of a pod with cbproxy.
*/}}
{{- define "cbproxy.podLabels" -}}
{{- $v := include "cbproxy.values" . | fromJson -}}
{{- if $v.enabled -}}
cbproxy: sidecar
cbproxy-instance: {{ include "cbproxy.fullname" . | quote }}
{{- end -}}
{{- end -}}

{{/*
cbproxy.container returns an element of initContainers: a native sidecar, which starts before the other containers and
ends after them. It must be the first, because the others may call the services, too.
*/}}
{{- define "cbproxy.container" -}}
{{- $v := include "cbproxy.values" . | fromJson -}}
{{- if $v.enabled -}}
{{- $container := include "cbproxy.defaultContainer" $v | fromYaml -}}
{{- $_ := set $container "env" (include "cbproxy.containerEnv" (list $container.env $v.extraEnv) | fromJsonArray) -}}
{{- $_ := set $container "args" (concat $container.args $v.extraArgs) -}}
{{- $_ := set $container "volumeMounts" (concat $container.volumeMounts $v.extraVolumeMounts) -}}
{{- list (include "cbproxy.merge" (list $container $v.container) | fromJson) | toYaml -}}
{{- end -}}
{{- end -}}

{{/*
cbproxy.containerEnv returns the first list of variables as JSON, with those of the second instead of those with the same
name, and the rest of the second after them.
*/}}
{{- define "cbproxy.containerEnv" -}}
{{- $extra := dict -}}
{{- range index . 1 }}{{ $_ := set $extra .name . }}{{ end -}}
{{- $all := list -}}
{{- $names := dict -}}
{{- range index . 0 -}}
{{- $all = append $all (hasKey $extra .name | ternary (get $extra .name) .) -}}
{{- $_ := set $names .name true -}}
{{- end -}}
{{- range index . 1 }}{{ if not (hasKey $names .name) }}{{ $all = append $all . }}{{ end }}{{ end -}}
{{- toJson $all -}}
{{- end -}}

{{/* The same container as in k8s/sidecar/sidecar.yaml, which explains it. */}}
{{- define "cbproxy.defaultContainer" -}}
{{- $image := .image.repository -}}
{{- with .image.tag }}{{ $image = printf "%s:%s" $image . }}{{ end -}}
{{- with .image.digest }}{{ $image = printf "%s@%s" $image . }}{{ end -}}
name: cbproxy
image: {{ quote $image }}
{{- with .image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
restartPolicy: Always
args: [run, --config, /etc/cbproxy/config.yaml]
env:
  - name: MEMORY_LIMIT_MIB
    valueFrom:
      resourceFieldRef:
        containerName: cbproxy
        resource: limits.memory
        divisor: 1Mi
  - name: GOMEMLIMIT
    value: $(MEMORY_LIMIT_MIB)000KiB
  - name: CBPROXY_ADMIN_TOKEN
    valueFrom:
      secretKeyRef:
        name: {{ .adminSecret | quote }}
        key: token
        optional: true
  - name: REDIS_URL
    valueFrom:
      secretKeyRef:
        name: {{ .redisSecret | quote }}
        key: url
        optional: true
ports:
  - name: cbproxy-admin
    containerPort: {{ int .adminPort }}
startupProbe:
  httpGet: {path: /readyz, port: cbproxy-admin}
  periodSeconds: 1
  failureThreshold: 30
readinessProbe:
  httpGet: {path: /readyz, port: cbproxy-admin}
  periodSeconds: 5
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /healthz, port: cbproxy-admin}
  periodSeconds: 10
  timeoutSeconds: 2
  failureThreshold: 3
resources: {{ toJson .resources }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
volumeMounts:
  - name: cbproxy-config
    mountPath: /etc/cbproxy
    readOnly: true
  - name: cbproxy-data
    mountPath: /var/lib/cbproxy
{{- end -}}

{{/*
cbproxy.volumes returns elements of the pod's volumes.
*/}}
{{- define "cbproxy.volumes" -}}
{{- $v := include "cbproxy.values" . | fromJson -}}
{{- if $v.enabled -}}
- name: cbproxy-config
  configMap:
    name: {{ $v.existingConfigMap | default (printf "%s-config" (include "cbproxy.fullname" .)) | quote }}
- name: cbproxy-data
{{- if $v.data.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ $v.data.existingClaim | quote }}
{{- else if $v.data.sizeLimit }}
  emptyDir:
    sizeLimit: {{ $v.data.sizeLimit | quote }}
{{- else }}
  emptyDir: {}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
cbproxy.urls returns elements of a container's env: the URLs of services, which lead to cbproxy.
*/}}
{{- define "cbproxy.urls" -}}
{{- $v := include "cbproxy.values" . | fromJson -}}
{{- if and $v.enabled $v.urls -}}
{{- if not $v.existingConfigMap -}}
{{- $listen := (include "cbproxy.config" . | fromYaml).listen | default "127.0.0.1:8080" | toString -}}
{{- if not (or (contains "$" $listen) (hasSuffix (printf ":%d" (int $v.proxyPort)) $listen)) -}}
{{- fail (printf "cbproxy: listen is %s in the configuration, but cbproxy.proxyPort is %d" $listen (int $v.proxyPort)) -}}
{{- end -}}
{{- end -}}
{{- $list := list -}}
{{- range $name, $prefix := $v.urls -}}
{{- $list = append $list (dict "name" $name "value" (printf "http://127.0.0.1:%d%s" (int $v.proxyPort) $prefix)) -}}
{{- end -}}
{{- toYaml $list -}}
{{- end -}}
{{- end -}}
