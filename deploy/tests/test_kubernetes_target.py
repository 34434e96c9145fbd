"""`fishy deploy --target kubernetes`."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import yaml
from cluster import (
    CONNECTIONS,
    Object,
    by_name,
    check_configuration,
    check_pods,
    check_schema,
    documents,
    of_kind,
    pods_environment,
    render,
    selects,
)
from conftest import ROOT, run, tool
from program import Program

MODEL = ["--model", "models:/oxygen@champion", "--target", "kubernetes"]


def written(fishy: str, *arguments: str) -> list[Object]:
    return documents(run(fishy, "deploy", "oxygen", *MODEL, "--offline", *arguments))


def test_the_objects_are_valid_and_fit_together(fishy: str) -> None:
    objects = written(fishy, "--min", "3", "--max", "9", "--queue-ms", "50", "--memory", "1Gi")
    check_schema(objects)
    assert [document["kind"] for document in objects] == ["Deployment", "Service", "HorizontalPodAutoscaler"]
    deployment, service, autoscaler = objects
    check_pods(deployment)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert selects(service["spec"]["selector"], labels)
    scaling = autoscaler["spec"]
    assert scaling["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert (scaling["minReplicas"], scaling["maxReplicas"]) == (3, 9)
    by_queue, by_cpu = scaling["metrics"]
    assert by_queue["pods"]["target"] == {"type": "AverageValue", "averageValue": "50m"}
    assert by_cpu["resource"]["name"] == "cpu"


def test_the_pods_belong_to_the_release(fishy: str, tmp_path: Path) -> None:
    """What they refer to is made by the chart, which lets them through its network policies."""
    chart = render(CONNECTIONS, tmp_path)
    objects = written(fishy)
    deployment = objects[0]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] in by_name(chart, "ServiceAccount")
    of_chart = of_kind(chart, "Deployment")[0]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == of_chart["containers"][0]["image"]
    policies = [
        one["metadata"]["name"]
        for one in of_kind(chart, "NetworkPolicy")
        if selects(one["spec"]["podSelector"]["matchLabels"], labels)
    ]
    assert policies == ["fishy-inference"]
    # The chart's own Services and budgets leave them alone.
    for kind in ("Service", "PodDisruptionBudget"):
        for one in of_kind(chart, kind):
            selector = one["spec"]["selector"]
            assert not selects(selector.get("matchLabels", selector), labels), one["metadata"]["name"]

    variables = pods_environment(deployment, chart + objects)
    printed = check_configuration(fishy, variables, tmp_path)
    assert 'only = ["oxygen"]' in printed
    assert 'registry = "http://fishy-registry:5000"' in printed


def test_files_and_a_secret_of_ones_own(fishy: str, tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    arguments = [
        "--release",
        "mlops",
        "--secret",
        "from-vault",
        "--image",
        "fish@sha256:0",
        "--output-dir",
        str(folder),
    ]
    assert run(fishy, "deploy", "oxygen", *MODEL, "--offline", *arguments) == ""
    names = ["autoscaler.yaml", "deployment.yaml", "service.yaml"]
    assert sorted(file.name for file in folder.iterdir()) == names
    deployment = yaml.safe_load((folder / "deployment.yaml").read_text())
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert deployment["metadata"]["name"] == "mlops-inference-oxygen"
    assert container["envFrom"] == [{"configMapRef": {"name": "mlops"}}, {"secretRef": {"name": "from-vault"}}]
    assert container["image"] == "fish@sha256:0"


def test_an_option_of_kubernetes_without_the_target_is_refused(fishy: str) -> None:
    command = [fishy, "deploy", "oxygen", "--model", "models:/o/1", "--offline"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "--target kubernetes" in done.stderr


class Api(BaseHTTPRequestHandler):
    """As much of Kubernetes' API as `kubectl apply` asks for."""

    objects: dict[str, Object]
    resources: ClassVar[dict[str, list[tuple[str, str]]]] = {
        "/apis/apps/v1": [("deployments", "Deployment")],
        "/api/v1": [("services", "Service"), ("namespaces", "Namespace")],
        "/apis/autoscaling/v2": [("horizontalpodautoscalers", "HorizontalPodAutoscaler")],
    }

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        groups = [path.split("/")[2:] for path in self.resources if path.startswith("/apis/")]
        if path == "/api":
            self.answer({"kind": "APIVersions", "versions": ["v1"]})
        elif path == "/apis":
            names = [
                {"name": name, "versions": [{"groupVersion": f"{name}/{version}", "version": version}]}
                for name, version in groups
            ]
            self.answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": names})
        elif path in self.resources:
            verbs = ["create", "get", "patch"]
            listed = [
                {"name": name, "kind": kind, "namespaced": kind != "Namespace", "singularName": "", "verbs": verbs}
                for name, kind in self.resources[path]
            ]
            version = path.removeprefix("/apis/").removeprefix("/api/")
            self.answer({"kind": "APIResourceList", "groupVersion": version, "resources": listed})
        elif path == "/openapi/v3":
            names = {name.lstrip("/"): {"serverRelativeURL": f"/openapi/v3{name}"} for name in self.resources}
            self.answer({"paths": names})
        elif path.removeprefix("/openapi/v3") in self.resources:
            self.answer(self.openapi(path.removeprefix("/openapi/v3")))
        elif path in self.objects:
            self.answer(self.objects[path])
        else:
            self.answer({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}, 404)

    def openapi(self, path: str) -> Any:
        """That the server itself looks at the fields: all that kubectl wants to know of the schema."""
        group, _, version = path.removeprefix("/apis/").removeprefix("/api/").rpartition("/")
        paths = {}
        for name, kind in self.resources[path]:
            identity = {"group": group, "version": version, "kind": kind}
            patch = {
                "x-kubernetes-group-version-kind": identity,
                "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
            }
            paths[f"{path}/namespaces/{{namespace}}/{name}/{{name}}"] = {"patch": patch}
        return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "1"}, "paths": paths}

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.objects[f"{self.path.split('?')[0]}/{document['metadata']['name']}"] = document
        self.answer(document, 201)

    def answer(self, body: Any, status: int = 200) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def api() -> Iterator[tuple[str, dict[str, Object]]]:
    """An API server and what was created there."""
    created: dict[str, Object] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Api,), {"objects": created}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", created
    finally:
        server.shutdown()
        thread.join()


def test_apply_tells_the_server_and_the_cluster(fishy: str, tmp_path: Path) -> None:
    """With the real kubectl, against a stand-in of the API server."""
    with Program(fishy, tmp_path / "data") as program, api() as (cluster, created):
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "there", "cluster": {"server": cluster}}],
            "contexts": [{"name": "there", "context": {"cluster": "there", "user": ""}}],
        }
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        environment = {
            **os.environ,
            "KUBECONFIG": str(tmp_path / "config"),
            "KUBECACHEDIR": str(tmp_path / "cache"),
            "PATH": f"{Path(tool('kubectl')).parent}:{os.environ['PATH']}",
        }
        command = [fishy, "deploy", "oxygen", *MODEL, "--apply", "--context", "there", "--url", program.url]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        known = json.loads(program.get("/api/v1/deployments/oxygen"))
        assert known["spec"]["model"] == "models:/oxygen@champion"
        assert sorted(created) == [
            "/api/v1/namespaces/fishy/services/fishy-inference-oxygen",
            "/apis/apps/v1/namespaces/fishy/deployments/fishy-inference-oxygen",
            "/apis/autoscaling/v2/namespaces/fishy/horizontalpodautoscalers/fishy-inference-oxygen",
        ]
        check_schema(list(created.values()))


def test_a_cluster_that_is_away_is_an_error(fishy: str, tmp_path: Path) -> None:
    with Program(fishy, tmp_path / "data") as program:
        environment = {
            **os.environ,
            "KUBECONFIG": "/dev/null",
            "PATH": f"{Path(tool('kubectl')).parent}:{os.environ['PATH']}",
        }
        command = [fishy, "deploy", "oxygen", *MODEL, "--apply", "--url", program.url]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode != 0
        assert "kubectl did not apply the objects" in done.stderr
