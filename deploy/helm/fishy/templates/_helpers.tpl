{{- define "fishy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "fishy.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "fishy.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "fishy.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "fishy.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "fishy.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What tells all pods of the release. */}}
{{- define "fishy.instanceLabels" -}}
app.kubernetes.io/name: fishy
app.kubernetes.io/instance: {{ include "fishy.fullname" . }}
{{- end -}}

{{- define "fishy.labels" -}}
{{ include "fishy.instanceLabels" . }}
app.kubernetes.io/part-of: fishy-watch
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The components of the mode, as a JSON list. */}}
{{- define "fishy.components" -}}
{{- if eq .Values.mode "single" -}}
["all"]
{{- else -}}
["governance", "registry", "deployment", "monitoring", "pipelines"]
{{- end -}}
{{- end -}}

{{/* Whether state is where several pods reach it: then pods of one deployment can stand beside those of the release. */}}
{{- define "fishy.isShared" -}}
{{- if or (eq .Values.mode "services") (and .Values.database.url .Values.bus.url .Values.artifacts.url) -}}
true
{{- end -}}
{{- end -}}

{{/* The object name of a component. Takes a list: root, component. */}}
{{- define "fishy.componentName" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- printf "%s-%s" (include "fishy.fullname" $root) $component -}}
{{- end -}}

{{/* The settings of a component, as JSON. Takes a list: root, component. */}}
{{- define "fishy.settings" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- $own := eq $component "all" | ternary $root.Values.single (index $root.Values.services $component) -}}
{{- mergeOverwrite (deepCopy $root.Values.defaults) (deepCopy (default dict $own)) | toJson -}}
{{- end -}}

{{- define "fishy.image" -}}
{{- $root := index . 0 -}}{{- $settings := index . 1 -}}
{{- $image := merge (dict) (default dict $settings.image) (pick $root.Values.image "repository" "digest" "tag") -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Sections and keys as environment variables and their texts, as JSON. */}}
{{- define "fishy.variables" -}}
{{- $variables := dict -}}
{{- range $section, $keys := . -}}
{{- range $key, $value := $keys -}}
{{- $text := kindIs "string" $value | ternary $value (toJson $value) -}}
{{- $_ := set $variables (printf "FISHY__%s__%s" (upper $section) (upper $key)) $text -}}
{{- end -}}
{{- end -}}
{{- toJson $variables -}}
{{- end -}}

{{- define "fishy.secretName" -}}
{{- default (include "fishy.fullname" .) .Values.secrets.existingSecret -}}
{{- end -}}

{{- define "fishy.auditKeyName" -}}
{{- default (printf "%s-audit-key" (include "fishy.fullname" .)) .Values.secrets.existingAuditKey -}}
{{- end -}}

{{/* What cannot work is refused before anything is applied. */}}
{{- define "fishy.check" -}}
{{- if eq .Values.mode "services" -}}
{{- if not .Values.artifacts.url -}}
{{- fail "mode services needs artifacts.url (gs://… or s3://…): pods of their own share no folder" -}}
{{- end -}}
{{- if not .Values.secrets.existingSecret -}}
{{- if not .Values.database.url -}}
{{- fail "mode services needs database.url (postgres://…), or secrets.existingSecret with FISHY__STORAGE__DATABASE" -}}
{{- end -}}
{{- if not .Values.bus.url -}}
{{- fail "mode services needs bus.url (amqp://…), or secrets.existingSecret with FISHY__BUS__URL" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.auth.tokens .Values.auth.oidc.issuer) -}}
{{- fail "pods listen on every address, so callers must say who they are: set auth.tokens or auth.oidc" -}}
{{- end -}}
{{- if and .Values.auth.oidc.issuer (not .Values.auth.oidc.audience) -}}
{{- fail "auth.oidc.issuer needs auth.oidc.audience" -}}
{{- end -}}
{{- if and .Values.auth.internalSecret (lt (len .Values.auth.internalSecret) 32) -}}
{{- fail "auth.internalSecret must have 32 or more characters" -}}
{{- end -}}
{{- if and (eq .Values.mode "single") (gt (int .Values.single.replicas) 1) -}}
{{- fail "mode single is one pod: use mode services for more" -}}
{{- end -}}
{{- end -}}
