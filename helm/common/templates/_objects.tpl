{{/* The objects beside a service's workload that every chart has, as the values ask for them. */}}

{{- define "common.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "common.serviceAccountName" . }}
  labels: {{- include "common.labels" . | nindent 4 }}
  {{- with .Values.serviceAccount.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}
{{- end -}}

{{- define "common.podDisruptionBudget" -}}
{{- if .Values.podDisruptionBudget.enabled }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "common.fullname" . }}
  labels: {{- include "common.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .Values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels: {{- include "common.selectorLabels" . | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "common.serviceMonitor" -}}
{{- if .Values.serviceMonitor.enabled }}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "common.fullname" . }}
  labels:
    {{- include "common.labels" . | nindent 4 }}
    {{- with .Values.serviceMonitor.labels }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  selector:
    matchLabels: {{- include "common.selectorLabels" . | nindent 6 }}
  endpoints:
    - port: admin
      path: /metrics
      interval: {{ .Values.serviceMonitor.interval }}
      # The names by which deploy/monitoring's rules and dashboards know them.
      relabelings:
        - {action: replace, targetLabel: job, replacement: conclave}
        - {action: replace, targetLabel: service, replacement: {{ .Chart.Name }}}
{{- end }}
{{- end -}}

{{/* Called with {root, ports: [{name, port}, ..], headless: bool}. */}}
{{- define "common.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "common.fullname" .root }}
  labels: {{- include "common.labels" .root | nindent 4 }}
spec:
  {{- if .headless }}
  clusterIP: None
  # Peers connect to pods by name, also while they start and drain.
  publishNotReadyAddresses: true
  {{- end }}
  selector: {{- include "common.selectorLabels" .root | nindent 4 }}
  ports:
    {{- range .ports }}
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }}}
    {{- end }}
    - {name: admin, port: 9464, targetPort: admin}
{{- end -}}

{{/*
Called with {root, ingress: [{port, from: [component, ..]}], egress: [{port, to: [component, ..]}], open: [port, ..],
anywhere: [port, ..]}. `from` and `to` are services of Conclave in the same namespace; `open` ports take anybody, and
connections to a port of `anywhere` may leave for any host.
*/}}
{{- define "common.networkPolicy" -}}
{{- $root := .root -}}
{{- if $root.Values.networkPolicy.enabled }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "common.fullname" $root }}
  labels: {{- include "common.labels" $root | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "common.selectorLabels" $root | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- range .ingress }}
    - ports: [{port: {{ .port }}}]
      from:
        {{- range .from }}
        - podSelector: {matchLabels: {app.kubernetes.io/part-of: conclave, app.kubernetes.io/name: {{ . }}}}
        {{- end }}
    {{- end }}
    {{- range .open }}
    - ports: [{port: {{ . }}}]
    {{- end }}
    # Metrics, from wherever the values say that Prometheus runs, and `helm test`. Probes come from the node, which
    # no policy stops.
    - ports: [{port: 9464}]
      from:
        - podSelector: {matchLabels: {app.kubernetes.io/name: {{ $root.Chart.Name }}-test}}
        {{- toYaml $root.Values.networkPolicy.metricsFrom | nindent 8 }}
  egress:
    - ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
    {{- range .egress }}
    - ports: [{port: {{ .port }}}]
      to:
        {{- range .to }}
        - podSelector: {matchLabels: {app.kubernetes.io/part-of: conclave, app.kubernetes.io/name: {{ . }}}}
        {{- end }}
    {{- end }}
    {{- range .anywhere }}
    - ports: [{port: {{ . }}}]
    {{- end }}
    {{- with $root.Values.networkPolicy.extraEgress }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}
{{- end -}}

{{/* `autoscaling.metrics` in the values are those of the HPA, as they are. */}}
{{- define "common.autoscaler" -}}
{{- $root := .root -}}
{{- if $root.Values.autoscaling.enabled }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "common.fullname" $root }}
  labels: {{- include "common.labels" $root | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: {{ .kind }}, name: {{ include "common.fullname" $root }}}
  minReplicas: {{ $root.Values.autoscaling.minReplicas }}
  maxReplicas: {{ $root.Values.autoscaling.maxReplicas }}
  metrics: {{- toYaml $root.Values.autoscaling.metrics | nindent 4 }}
  {{- with $root.Values.autoscaling.behavior }}
  behavior: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* `helm test`: asks the service through its Service. Called with {root, host, port, path}. */}}
{{- define "common.testPod" -}}
{{- $root := .root -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "common.fullname" $root }}-test
  labels:
    app.kubernetes.io/name: {{ $root.Chart.Name }}-test
    app.kubernetes.io/instance: {{ $root.Release.Name }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: test
      image: {{ include "common.image" $root }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      # The same program asks its like: `ready` is what it answers to the admin port of any host.
      args: [ready, --admin.host, {{ .host }}, --admin.port, "9464"]
      resources: {limits: {cpu: 100m, memory: 64Mi}, requests: {cpu: 10m, memory: 32Mi}}
{{- end -}}
