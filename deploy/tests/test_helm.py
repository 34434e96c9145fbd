"""The Helm chart."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from cluster import (
    CHART,
    CONNECTIONS,
    SERVICES,
    VALUES,
    Object,
    by_name,
    check_configuration,
    check_pods,
    check_schema,
    helm,
    of_kind,
    pods_environment,
    render,
    selects,
)
from conftest import ROOT, answers, free_port, needed, run, until
from program import Program


@pytest.fixture(scope="module", params=list(VALUES))
def values(request: pytest.FixtureRequest) -> Object:
    return VALUES[request.param]


@pytest.fixture(scope="module")
def objects(values: Object, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    return render(values, tmp_path_factory.mktemp("helm"))


def test_it_lints(values: Object, tmp_path: Path) -> None:
    done = helm("lint", CHART, "--strict", values=values, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_knows_every_key(objects: list[Object]) -> None:
    check_schema(objects)
    names = [(document["kind"], document["metadata"]["name"]) for document in objects]
    assert len(set(names)) == len(names), "two objects of one name"


def test_a_key_that_kubernetes_does_not_know_is_found(tmp_path: Path) -> None:
    objects = render({"mode": "single"}, tmp_path)
    of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["readOnly"] = True
    with pytest.raises(AssertionError, match="readOnly"):
        check_schema(objects)


def test_pods_are_restricted_probed_and_bounded(objects: list[Object]) -> None:
    assert of_kind(objects, "Deployment")
    for deployment in of_kind(objects, "Deployment"):
        check_pods(deployment)


def test_every_deployment_has_a_service_and_a_budget(objects: list[Object]) -> None:
    deployments = of_kind(objects, "Deployment")
    for deployment in deployments:
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        for kind, selector in [
            ("Service", lambda one: one["spec"]["selector"]),
            ("PodDisruptionBudget", lambda one: one["spec"]["selector"]["matchLabels"]),
        ]:
            found = [one for one in of_kind(objects, kind) if selects(selector(one), labels)]
            assert len(found) == 1, f"{deployment['metadata']['name']} has {len(found)} {kind}s"
    # No selector reaches the pods of two Deployments.
    assert len(of_kind(objects, "Service")) == len(deployments)


def test_autoscalers_own_the_number_of_pods(objects: list[Object], values: Object) -> None:
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind(objects, "HorizontalPodAutoscaler")}
    names = set(by_name(objects, "Deployment"))
    assert scaled <= names
    for name, deployment in by_name(objects, "Deployment").items():
        assert ("replicas" in deployment["spec"]) == (name not in scaled), name
    is_scaled = values.get("mode") != "single" and values.get("defaults", {}).get("autoscaling", {}).get(
        "enabled", True
    )
    assert scaled == (names if is_scaled else set())


def test_network_policies_cover_every_pod(objects: list[Object], values: Object) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    if not values.get("networkPolicy", {}).get("enabled", True):
        assert not policies
        return
    for deployment in of_kind(objects, "Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        found = [one for one in policies if selects(one["spec"]["podSelector"]["matchLabels"], labels)]
        assert len(found) == 1
        assert found[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_callers_may_reach_whom_they_need(tmp_path: Path) -> None:
    """`Service::needs` of the program and the network policies say the same."""
    source = (ROOT / "fishy/src/services.rs").read_text()
    needs: dict[str, set[str]] = {}
    for callers, called in re.findall(r"((?:Self::\w+ ?\|? ?)+) => &\[([^\]]*)\]", source.split("const fn needs")[1]):
        for caller in re.findall(r"Self::(\w+)", callers):
            needs[caller.lower()] = {name.lower() for name in re.findall(r"Self::(\w+)", called)}
    assert set(needs) == set(SERVICES)
    policies = by_name(render({**CONNECTIONS, "networkPolicy": {"clients": []}}, tmp_path), "NetworkPolicy")

    def callers_of(service: str) -> set[str]:
        rules = policies[f"fishy-{service}"]["spec"].get("ingress") or []
        peers = [peer["podSelector"] for rule in rules for peer in rule["from"]]
        return {name for peer in peers for name in peer["matchExpressions"][0]["values"]}

    for caller, called in needs.items():
        for service in called:
            assert caller in callers_of(service), f"{caller} cannot reach {service}"
    # Everybody asks governance who a token is; the pods of one deployment are a deployment service.
    assert callers_of("governance") == set(SERVICES) - {"governance"} | {"inference"}
    for called in needs["deployment"]:
        assert "inference" in callers_of(called)


def test_the_program_takes_the_settings(objects: list[Object], values: Object, fishy: str, tmp_path: Path) -> None:
    for deployment in of_kind(objects, "Deployment"):
        variables = pods_environment(deployment, objects)
        printed = check_configuration(fishy, variables, tmp_path)
        assert 'listen = "0.0.0.0:5000"' in printed
        assert 'data_dir = "/var/lib/fishy"' in printed
        is_single = values.get("mode") == "single"
        for service in SERVICES:
            found = re.search(rf'^{service} = "http://\w+-(\w+):5000"$', printed, re.MULTILINE)
            if is_single and "bus" not in values:
                assert not found, "nobody else reaches a pod that keeps its state for itself"
            else:
                assert found, printed
                assert found[1] == ("all" if is_single else service)
        for secret in ("hunter2", "hunter3", "0123456789abcdef"):
            assert secret not in printed, "the program prints a secret"
    if "config" in values:
        printed = check_configuration(
            fishy, pods_environment(by_name(objects, "Deployment")["mlops-deployment"], objects), tmp_path
        )
        assert "spool_max_bytes = 536870912" in printed
        assert 'spool_when_full = "refuse"' in printed
        assert "sessions = 4" in printed


def test_secrets_are_in_secrets_alone(objects: list[Object], values: Object) -> None:
    for document in objects:
        if document["kind"] != "Secret":
            text = json.dumps(document)
            assert "hunter" not in text, document["metadata"]["name"]
            assert "0123456789abcdef" not in text, document["metadata"]["name"]
    secrets = by_name(objects, "Secret")
    if "secrets" in values:
        assert not secrets
        pods = [one["spec"]["template"]["spec"] for one in of_kind(objects, "Deployment")]
        assert all({"secretRef": {"name": "from-vault"}} in pod["containers"][0]["envFrom"] for pod in pods)
        assert [
            pod["volumes"][-1]["secret"]["secretName"] for pod in pods if pod["volumes"][-1]["name"] == "audit-key"
        ] == ["audit-from-vault"]


def test_the_audit_log_signs_with_the_key_of_the_chart(fishy: str, python: str, tmp_path: Path) -> None:
    """The key that the chart makes is one that the program reads: the offline token needs governance's home."""
    key = by_name(render({"mode": "single"}, tmp_path), "Secret")["fishy-audit-key"]["data"]["audit-key.pem"]
    pem = base64.b64decode(key).decode()
    assert pem.startswith("-----BEGIN PRIVATE KEY-----")
    home = tmp_path / "data"
    (home / "governance").mkdir(parents=True)
    (home / "governance/audit-key.pem").write_text(pem)
    with Program(fishy, home, FISHY__GOVERNANCE__CHECKPOINT_EVERY_ENTRIES="1") as program:
        program.send("POST", "/api/v1/tokens", {"name": "somebody", "roles": ["viewer"]})
        until("the head is signed", lambda: answers(f"{program.url}/api/v1/audit/checkpoint"))
        assert program.get("/api/v1/audit/checkpoint").startswith("fishy-watch/audit\n")
    assert (home / "governance/audit-key.pem").read_text() == pem


def test_the_operator_scrapes_every_pod_as_the_rules_expect(tmp_path: Path) -> None:
    objects = render({**CONNECTIONS, "metrics": {"serviceMonitor": {"enabled": True}}}, tmp_path)
    (monitor,) = of_kind(objects, "ServiceMonitor")
    (pods,) = of_kind(objects, "PodMonitor")
    for service in of_kind(objects, "Service"):
        labels = service["metadata"]["labels"]
        assert selects(monitor["spec"]["selector"]["matchLabels"], labels)
        assert all(one["key"] in labels for one in monitor["spec"]["selector"]["matchExpressions"])
        # The rules and dashboards ask for this job.
        assert labels[monitor["spec"]["jobLabel"]] == "fishy"
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
    for endpoint in monitor["spec"]["endpoints"] + pods["spec"]["podMetricsEndpoints"]:
        assert endpoint["path"] == "/metrics"
        assert endpoint["honorLabels"], "our label `service` would be renamed"


def test_the_operator_gets_the_rules_that_are_tested(tmp_path: Path) -> None:
    values = {**CONNECTIONS, "metrics": {"prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}}}
    assert not of_kind(render(CONNECTIONS, tmp_path), "PrometheusRule"), "without the operator there is no such kind"
    (rule,) = of_kind(render(values, tmp_path), "PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    files = [
        yaml.safe_load((ROOT / "deploy/prometheus" / name).read_text()) for name in ("recording.yml", "alerts.yml")
    ]
    assert rule["spec"] == {"groups": [group for file in files for group in file["groups"]]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rule["spec"]))
    assert "SUCCESS" in run(needed("promtool", "prometheus"), "check", "rules", tmp_path / "rules.yml")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "artifacts.url"),
        ({"artifacts": {"url": "gs://b"}}, "database.url"),
        ({"artifacts": {"url": "gs://b"}, "database": {"url": "postgres://d"}}, "bus.url"),
        ({"mode": "cluster"}, "mode"),
        ({"mode": "single", "replicas": 3}, "additional properties 'replicas'"),
        ({"mode": "single", "single": {"replicas": 2}}, "mode single is one pod"),
        ({"mode": "single", "auth": {"tokens": False}}, "callers must say who they are"),
        ({"mode": "single", "auth": {"internalSecret": "short"}}, "32 or more characters"),
        ({"mode": "single", "auth": {"oidc": {"issuer": "https://id"}}}, "auth.oidc.audience"),
        ({"mode": "single", "database": {"url": "mysql://d"}}, "database/url"),
        ({"mode": "single", "defaults": {"autoscaling": {"cpuPercent": 170}}}, "cpuPercent"),
        ({"mode": "single", "config": {"deployment": {"Spool": 1}}}, "Spool"),
    ],
)
def test_what_cannot_work_is_refused(wrong: Object, said: str, tmp_path: Path) -> None:
    done = helm("template", "fishy", CHART, values=wrong, folder=tmp_path)
    assert done.returncode != 0, "it was rendered"
    assert said in done.stderr, done.stderr


def test_every_value_is_documented_and_in_the_schema() -> None:
    """A value that the schema knows has a default; `helm lint` sees to the other direction."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def missing(schema_of: Object, value: Object, path: str) -> list[str]:
        found = []
        for name, inner in schema_of.get("properties", {}).items():
            where = f"{path}{name}"
            if name not in value:
                found.append(where)
            elif isinstance(value[name], dict) and value[name] and "properties" in inner:
                found += missing(inner, value[name], f"{where}.")
        return found

    found = missing(schema, defaults, "") + missing(schema["$defs"]["settings"], defaults["defaults"], "defaults.")
    # `global` is Helm's own; a mode's and a service's settings have theirs from `defaults`.
    assert {name for name in found if not name.startswith(("global", "single.", "services."))} == set()


def test_the_ingress_sends_each_door_to_its_service(tmp_path: Path) -> None:
    """The routes in the sources of each service reach that service."""
    ingress = of_kind(render({**CONNECTIONS, "ingress": {"enabled": True}}, tmp_path), "Ingress")[0]
    paths = {
        path["path"]: path["backend"]["service"]["name"].removeprefix("fishy-")
        for path in ingress["spec"]["rules"][0]["http"]["paths"]
    }

    def behind(route: str) -> str:
        matching = [path for path in paths if route == path or route.startswith(path.rstrip("/") + "/")]
        return paths[max(matching, key=len)]

    checked = 0
    for service in SERVICES:
        source = ROOT / "services" / service / "src"
        files = [*source.glob("http.rs"), *source.glob("http/**/*.rs")]
        for file in files:
            for route in re.findall(r'\.(?:get|post|put|patch|delete)\(\s*"(/[^"]+)"', file.read_text()):
                # Each service answers these for itself.
                if route in ("/ping", "/version"):
                    continue
                assert behind(route) == service, f"{route} of {service} goes to {behind(route)}"
                checked += 1
    assert checked > 40


def backend(path: Object, objects: list[Object]) -> Object:
    """The port of the Service behind a path."""
    found = path["backend"]["service"]
    ports = by_name(objects, "Service")[found["name"]]["spec"]["ports"]
    return next(port for port in ports if port["name"] == found["port"]["name"])


@pytest.mark.parametrize("mode", ["services", "single"])
def test_grpc_has_an_ingress_of_its_own(mode: str, tmp_path: Path) -> None:
    values = {**CONNECTIONS, "mode": mode, "ingress": {"enabled": True, "annotations": {"issuer": "acme"}}}
    objects = render(values, tmp_path)
    check_schema(objects)
    doors, grpc = (by_name(objects, "Ingress")[name] for name in ("fishy", "fishy-grpc"))
    assert doors["metadata"]["annotations"] == {"issuer": "acme"}
    assert grpc["metadata"]["annotations"] == {
        "issuer": "acme",
        "nginx.ingress.kubernetes.io/backend-protocol": "GRPC",
    }
    paths = grpc["spec"]["rules"][0]["http"]["paths"]
    # Every method that the service answers.
    source = (ROOT / "services/deployment/src/grpc.rs").read_text()
    methods = re.findall(r'"/((?:grpc|inference)\.[A-Za-z0-9.]+)/\w+"', source)
    assert {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= set(methods)
    assert {path["path"] for path in paths} == {
        f"/{service}" for service in (*methods, "inference.GRPCInferenceService")
    }
    for path in paths:
        port = backend(path, objects)
        assert (port["appProtocol"], port["targetPort"]) == ("kubernetes.io/h2c", "http")
        assert path["backend"]["service"]["name"] == ("fishy-all" if mode == "single" else "fishy-deployment")
    # No path is in both: which of the two would win is up to the controller.
    others = {path["path"] for path in doors["spec"]["rules"][0]["http"]["paths"]}
    assert not others & {path["path"] for path in paths}
    off = {**values, "ingress": {"enabled": True, "grpc": {"enabled": False}}}
    assert set(by_name(render(off, tmp_path), "Ingress")) == {"fishy"}


def test_nginx_lets_http_and_grpc_through(fishy: str, tmp_path: Path) -> None:
    """The paths of the chart's Ingresses, in an nginx that speaks to each backend as its annotation says."""
    objects = render({"mode": "single", "ingress": {"enabled": True}}, tmp_path)
    http, grpc = free_port(), free_port()
    with Program(fishy, tmp_path / "data") as program:
        locations = ""
        for ingress in of_kind(objects, "Ingress"):
            annotations = ingress["metadata"].get("annotations", {})
            is_grpc = annotations.get("nginx.ingress.kubernetes.io/backend-protocol") == "GRPC"
            way = f"grpc_pass grpc://127.0.0.1:{program.port}" if is_grpc else f"proxy_pass {program.url}"
            for path in ingress["spec"]["rules"][0]["http"]["paths"]:
                locations += f"location {path['path']} {{ {way}; }}\n"
        temporary = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (tmp_path / "nginx.conf").write_text(
            f"pid {tmp_path}/nginx.pid;\nerror_log stderr;\ndaemon off;\nevents {{}}\n"
            f"http {{ access_log off;\n{temporary}"
            f"server {{ listen 127.0.0.1:{http}; listen 127.0.0.1:{grpc} http2;\n{locations} }} }}\n"
        )
        nginx = subprocess.Popen([needed("nginx", "nginx-light"), "-c", str(tmp_path / "nginx.conf")])
        try:
            until("nginx is up", lambda: answers(f"http://127.0.0.1:{http}/health"))
            # Whether the server serves: an empty message in a frame of gRPC.
            (tmp_path / "frame").write_bytes(bytes(5))
            call = [needed("curl", "curl"), "--silent", "--show-error", "--http2-prior-knowledge", "--dump-header", "-"]
            call += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
            call += ["--data-binary", f"@{tmp_path / 'frame'}", "--output", str(tmp_path / "answer")]
            told = run(*call, f"http://127.0.0.1:{grpc}/grpc.health.v1.Health/Check")
            assert re.search(r"^grpc-status: 0\r?$", told, re.MULTILINE), told
            # A frame that says SERVING (field 1 is 1).
            assert (tmp_path / "answer").read_bytes() == b"\0\0\0\0\x02\x08\x01"
            told = run(*call, f"http://127.0.0.1:{grpc}/inference.GRPCInferenceService/ServerLive")
            assert re.search(r"^grpc-status: 0\r?$", told, re.MULTILINE), told
        finally:
            nginx.terminate()
            nginx.wait(timeout=30)
