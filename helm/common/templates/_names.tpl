{{/* A service's object names: the release's name alone if it says the service, "prod-router" otherwise. */}}
{{- define "common.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects a service's pods: never changes over upgrades. */}}
{{- define "common.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: conclave
{{- end -}}

{{- define "common.labels" -}}
{{ include "common.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "common.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "common.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "common.image" -}}
{{- $registry := (.Values.global).imageRegistry | default "" -}}
{{- $tag := .Values.image.tag | default (.Values.global).imageTag | default .Chart.AppVersion -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}

{{/* The scheduler and the registry as the other services reach them. */}}
{{- define "common.schedulerAddress" -}}
{{- tpl ((.Values.global).schedulerAddress | default .Values.schedulerAddress) . -}}
{{- end -}}
{{- define "common.registryAddress" -}}
{{- tpl ((.Values.global).registryAddress | default .Values.registryAddress) . -}}
{{- end -}}

{{- define "common.keysSecret" -}}
{{- (.Values.global).keysSecret | default .Values.keys.existingSecret -}}
{{- end -}}

{{/* "router.batch.kv-tokens-max" -> CONCLAVE_ROUTER_BATCH_KV_TOKENS_MAX */}}
{{- define "common.settingName" -}}
CONCLAVE_{{ . | replace "." "_" | replace "-" "_" | upper }}
{{- end -}}
