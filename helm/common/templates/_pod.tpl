{{/*
A service's pod. Called with a dictionary:
  root      the chart's context
  component what is different in this pod, a dictionary:
    ports       list of {name, containerPort}
    env         list of environment entries, before `settings` and `extraEnv`
    volumes, mounts
    preStop     seconds to wait before SIGTERM, so that endpoints forget the pod first
    labels, resources, nodeSelector, tolerations   in place of the chart's, or added to them
*/}}
{{- define "common.podTemplate" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $values := $root.Values -}}
metadata:
  labels:
    {{- include "common.selectorLabels" $root | nindent 4 }}
    {{- with $component.labels }}{{ toYaml . | nindent 4 }}{{ end }}
    {{- with $values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $values.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "common.serviceAccountName" $root }}
  automountServiceAccountToken: false
  {{- with $values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName | default ($values.global).priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- with $component.nodeSelector | default $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $component.tolerations | default $values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.topologySpreadConstraints }}
  topologySpreadConstraints: {{- tpl (toYaml .) $root | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $root.Chart.Name }}
      image: {{ include "common.image" $root }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      ports:
        {{- toYaml $component.ports | nindent 8 }}
        - {name: admin, containerPort: 9464}
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        - {name: CONCLAVE_NODE_NAME, value: $(POD_NAME)}
        - {name: CONCLAVE_NODE_DRAIN_TIMEOUT_MS, value: {{ mul 1000 (sub $values.terminationGracePeriodSeconds (add 5 ($component.preStop | default 0))) | quote }}}
        - {name: CONCLAVE_LOG_LEVEL, value: {{ $values.logLevel }}}
        {{- with $component.env }}{{ toYaml . | nindent 8 }}{{ end }}
        {{- range $name, $value := $values.settings }}
        - {name: {{ include "common.settingName" $name }}, value: {{ $value | toString | quote }}}
        {{- end }}
        {{- with $values.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- with $component.preStop }}
      lifecycle: {preStop: {exec: {command: [sleep, {{ . | quote }}]}}}
      {{- end }}
      startupProbe:
        httpGet: {path: /health, port: admin}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /health, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /ready, port: admin}
        periodSeconds: 2
        timeoutSeconds: 5
      resources: {{- toYaml ($component.resources | default $values.resources) | nindent 8 }}
      volumeMounts:
        - {name: keys, mountPath: /run/conclave/keys, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- with $component.mounts }}{{ toYaml . | nindent 8 }}{{ end }}
        {{- with $values.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    # Its own secret key, and the public keys of all.
    - name: keys
      secret:
        secretName: {{ include "common.keysSecret" $root }}
        defaultMode: 0440
        items:
          - {key: {{ $root.Chart.Name }}.key, path: {{ $root.Chart.Name }}.key}
          {{- range list "gateway" "router" "expert-worker" "scheduler" "registry" "operator" }}
          - {key: {{ . }}.pub, path: {{ . }}.pub}
          {{- end }}
    - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
    {{- with $component.volumes }}{{ toYaml . | nindent 4 }}{{ end }}
    {{- with $values.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end -}}

{{/* The volume with the models' files, read-only, at /models: any volume source, in the values. */}}
{{- define "common.modelVolume" -}}
{{- $source := (.Values.global).modelVolume | default .Values.modelVolume -}}
{{- dict "name" "models" | merge (deepCopy $source) | toYaml -}}
{{- end -}}
