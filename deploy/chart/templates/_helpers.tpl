{{- define "ocisync.name" -}}
{{- if contains "ocisync" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-ocisync" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ocisync.selector" -}}
app.kubernetes.io/name: ocisync
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ocisync.labels" -}}
{{ include "ocisync.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "ocisync.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "ocisync.secret" -}}
{{- if .Values.existingSecret }}{{ .Values.existingSecret }}{{ else if .Values.secrets }}{{ include "ocisync.name" . }}{{ end }}
{{- end }}

{{/* The values' configuration over what the pod's mounts and probes rely on. */}}
{{- define "ocisync.config" -}}
{{- $daemon := dict "listen" "0.0.0.0:8080" "watch_config" true "state" "/var/lib/ocisync/state" "temporary" "/var/spool/ocisync" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "daemon" (merge (deepCopy ($config.daemon | default dict)) $daemon) -}}
{{- toYaml $config -}}
{{- end }}
