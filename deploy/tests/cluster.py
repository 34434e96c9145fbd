"""Kubernetes objects: rendered, checked against Kubernetes' schemas, and looked at."""

from __future__ import annotations

import functools
import importlib.resources
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT, run, tool
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

CHART = ROOT / "deploy/helm/fishy"
# The oldest release that the chart says it runs on, and the newest that there are schemas for.
RELEASES = ["1.30", "1.37"]
# Kinds that are not Kubernetes' own.
FOREIGN = "monitoring.coreos.com/"

Object = dict[str, Any]

SERVICES = ["governance", "registry", "deployment", "monitoring", "pipelines"]
CONNECTIONS = {
    "database": {"url": "postgres://fishy:hunter2@postgres:5432/fishy"},
    "bus": {"url": "amqps://fishy:hunter3@rabbitmq:5671/%2f"},
    "artifacts": {"url": "gs://fishy-artifacts/prod"},
}
VALUES: dict[str, Object] = {
    "services": CONNECTIONS,
    "everything": {
        **CONNECTIONS,
        "fullnameOverride": "mlops",
        "image": {"digest": "sha256:" + "0" * 64},
        "imagePullSecrets": [{"name": "pull"}],
        "serviceAccount": {"annotations": {"iam.gke.io/gcp-service-account": "fishy@project.iam.gserviceaccount.com"}},
        "artifacts": {"url": "s3://fishy", "endpoint": "https://minio:9000", "accessKey": "key", "secretKey": "secret"},
        "auth": {
            "internalSecret": "0123456789abcdef0123456789abcdef",
            "oidc": {"issuer": "https://accounts.example.org", "audience": "fishy"},
        },
        "config": {"deployment": {"spool_max_bytes": 536870912, "spool_when_full": "refuse"}},
        "defaults": {"priorityClassName": "high", "nodeSelector": {"pool": "ml"}, "podAnnotations": {"team": "fish"}},
        "services": {
            "deployment": {
                "config": {"inference": {"sessions": 4}},
                "extraEnv": [{"name": "RUST_BACKTRACE", "value": "1"}],
            },
            "pipelines": {"image": {"repository": "fishy-watch/fishy-python", "tag": "1"}},
        },
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "tls": [{"secretName": "tls", "hosts": ["fishy.example.org"]}],
        },
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        },
    },
    "existing-secrets": {
        "artifacts": {"url": "gs://fishy"},
        "secrets": {"existingSecret": "from-vault", "existingAuditKey": "audit-from-vault"},
        "serviceAccount": {"create": False, "name": "fishy-workload"},
        "networkPolicy": {"enabled": False},
        "defaults": {"autoscaling": {"enabled": False}, "replicas": 3},
    },
    "single": {"mode": "single"},
    "single-over-postgresql": {
        **CONNECTIONS,
        "mode": "single",
        "single": {"persistence": {"enabled": False}},
        "ingress": {"enabled": True},
    },
}


def helm(*arguments: str | Path, values: Object, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    command = [tool("helm"), *map(str, arguments), "--values", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def render(values: Object, folder: Path) -> list[Object]:
    """The objects of the chart with these values."""
    done = helm("template", "fishy", CHART, "--namespace", "fishy", values=values, folder=folder)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def documents(text: str) -> list[Object]:
    return [document for document in yaml.safe_load_all(text) if document]


@functools.cache
def schemas(release: str) -> Path:
    """The folder of the strict schemas of a release: keys that Kubernetes does not know are errors."""
    folder = Path(str(importlib.resources.files("kubernetes_validate"))) / "kubernetes-json-schema"
    return next(folder.glob(f"v{release}.*-local-strict"))


@functools.cache
def definitions(release: str) -> Registry[Any]:
    """What the schemas of a release refer to: read once, it is what takes the time."""
    content = json.loads((schemas(release) / "_definitions.json").read_text())
    return (Resource.from_contents(content, DRAFT202012) @ Registry()).crawl()


@functools.cache
def validator(release: str, api_version: str, kind: str) -> Draft202012Validator:
    # apps/v1 is apps-v1, networking.k8s.io/v1 is networking-v1.
    group, _, version = api_version.rpartition("/")
    name = "-".join(filter(None, [kind.lower(), group.split(".")[0], version]))
    schema = json.loads((schemas(release) / f"{name}.json").read_text())
    registry = Resource.from_contents(schema, DRAFT202012) @ definitions(release)
    return Draft202012Validator(schema, registry=registry)


def check_schema(objects: list[Object]) -> None:
    """Each object against the schema of its kind, of the oldest release and of the newest."""
    for document in objects:
        if document["apiVersion"].startswith(FOREIGN):
            continue
        for release in RELEASES:
            name = f"{document['kind']} {document['metadata']['name']} for Kubernetes {release}"
            errors = validator(release, document["apiVersion"], document["kind"]).iter_errors(document)
            found = [f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors]
            assert not found, f"{name}: {found}"


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [document for document in objects if document["kind"] == kind]


def by_name(objects: list[Object], kind: str) -> dict[str, Object]:
    return {document["metadata"]["name"]: document for document in of_kind(objects, kind)}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a selector by labels picks what has these."""
    return all(labels.get(key) == value for key, value in selector.items())


def check_pods(deployment: Object) -> None:
    """What every pod must be like, whoever made it."""
    name = deployment["metadata"]["name"]
    pod = deployment["spec"]["template"]["spec"]
    assert selects(deployment["spec"]["selector"]["matchLabels"], deployment["spec"]["template"]["metadata"]["labels"])
    assert pod["securityContext"]["runAsNonRoot"] is True, name
    assert pod["securityContext"]["runAsUser"] > 0, name
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", name
    assert pod["automountServiceAccountToken"] is False, name
    assert pod["enableServiceLinks"] is False, name
    assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), name
    mounted = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"] + pod.get("initContainers", []):
        limits = container["securityContext"]
        assert limits["runAsNonRoot"] is True, name
        assert limits["readOnlyRootFilesystem"] is True, name
        assert limits["allowPrivilegeEscalation"] is False, name
        assert limits["capabilities"] == {"drop": ["ALL"]}, name
        assert not limits.get("privileged"), name
        assert container["resources"]["requests"]["cpu"], name
        assert container["resources"]["requests"]["memory"], name
        assert container["resources"]["limits"]["memory"], name
        assert container["livenessProbe"]["httpGet"]["path"] == "/health", name
        assert container["readinessProbe"]["httpGet"]["path"] == "/ready/traffic", name
        assert container["startupProbe"]["httpGet"]["path"] == "/health", name
        ports = {port["name"] for port in container["ports"]}
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            assert container[probe]["httpGet"]["port"] in ports, name
        # The program writes below these two, and nowhere else.
        assert {"/var/lib/fishy", "/tmp"} <= {mount["mountPath"] for mount in container["volumeMounts"]}, name
        assert {mount["name"] for mount in container["volumeMounts"]} <= mounted, name


def pods_environment(deployment: Object, objects: list[Object]) -> dict[str, str]:
    """The environment that the container of a Deployment gets from objects of the release."""
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    variables: dict[str, str] = {}
    for source in container["envFrom"]:
        if reference := source.get("configMapRef"):
            variables |= by_name(objects, "ConfigMap")[reference["name"]]["data"]
        elif reference := source.get("secretRef"):
            secret = by_name(objects, "Secret").get(reference["name"])
            variables |= secret["stringData"] if secret else {}
    return variables | {entry["name"]: entry["value"] for entry in container.get("env", [])}


def check_configuration(fishy: str, variables: dict[str, str], folder: Path) -> str:
    """What the program itself says about these settings."""
    return run(fishy, "config", "print", env=variables, cwd=folder)
