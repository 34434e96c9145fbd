"""Every query of every dashboard, against a real Prometheus that scrapes a fishy which has really done things."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from activity import Farm, Receiver
from cluster import SERVICES
from conftest import ROOT, answers, free_port, needed, until
from program import Program

DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
IN_AN_HOUR = 'sum by (deployment) (increase({}{{deployment=~"$deployment"}}[1h]))'
OF_SINKS = "sum by (sink) (fishy_prediction_sink_{})"
# Queries that return nothing here, and why. One that does return something is taken off this list.
NOTHING = {
    "min by (instance) (fishy_bus_connected)": "the bus of one process has no broker",
    IN_AN_HOUR.format("fishy_deployment_refused_total"): "no version was refused",
    IN_AN_HOUR.format("fishy_deployment_canary_failed_total"): "no canary failed",
    OF_SINKS.format("waiting_records"): "no sink is configured",
    OF_SINKS.format("dropped_total"): "no sink is configured",
    "sum by (sink) (rate(fishy_prediction_sink_events_total[$__rate_interval]))": "no sink is configured",
}


class Prometheus:
    """A Prometheus that scrapes one program each second, with the rules of `deploy/prometheus`."""

    def __init__(self, folder: Path, target: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        folder.mkdir()
        config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(ROOT / "deploy/prometheus" / file) for file in config["rule_files"]]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target.removeprefix("http://")]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.log = folder / "prometheus.log"
        command = [needed("prometheus", "prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
        command += [
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def __enter__(self) -> Prometheus:
        def is_up() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return answers(f"{self.url}/-/ready")

        until("Prometheus is up", is_up)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)

    def get(self, path: str, **parameters: str) -> Any:
        with urllib.request.urlopen(
            f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=30
        ) as answer:
            return json.loads(answer.read())["data"]

    def query(self, expr: str) -> list[Any]:
        return list(self.get("query", query=expr)["result"])

    def value(self, expr: str) -> float:
        found = self.query(expr)
        return float(found[0]["value"][1]) if found else 0.0


@pytest.fixture(scope="module")
def world(fishy: str, python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Prometheus]]:
    folder = tmp_path_factory.mktemp("observed")
    receiver = Receiver()
    settings = {"FISHY__DEPLOYMENT__PARQUET_FLUSH_MS": "500"} | receiver.settings()
    with (
        contextlib.closing(receiver),
        Program(fishy, folder / "data", **settings) as program,
        Prometheus(folder / "prometheus", program.url) as prometheus,
    ):
        farm = Farm(program, python)
        farm.set_up()
        for day in range(4):
            farm.live_through(day)
            # A rate needs two scrapes with something between them.
            sent = farm.predictions
            seen = 'sum(fishy_inference_requests_total{deployment="oxygen", status="200"})'
            until("Prometheus has seen the day", lambda seen=seen, sent=sent: prometheus.value(seen) >= sent)
        stored = 'fishy_monitoring_records_total{outcome="stored"}'
        until("all records are stored", lambda: prometheus.value(stored) >= farm.predictions)
        until("the rules were evaluated", lambda: bool(prometheus.query("fishy:inference_queue_seconds:mean5m")))
        until(
            "a trigger was seen twice", lambda: bool(prometheus.query("increase(fishy_monitoring_triggers_total[1d])"))
        )
        rows = "rate(fishy_prediction_parquet_rows_total[1m])"
        until("Parquet was written twice", lambda: bool(prometheus.query(rows)))
        until("runs were seen twice", lambda: len(prometheus.query("increase(fishy_pipeline_runs_total[1h])")) >= 2)
        told = 'increase(fishy_monitoring_notifications_total{outcome="taken"}[1h])'
        until("a receiver was told twice", lambda: bool(prometheus.query(told)))
        yield program, prometheus


def queries(file: Path) -> list[tuple[str, str]]:
    panels = json.loads(file.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", [])]


def filled(expr: str) -> str:
    """As Grafana asks it, with everything chosen."""
    return re.sub(r"\$\{?[a-z]+\}?", ".*", expr.replace("$__rate_interval", "1m"))


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_query_returns_data(file: Path, world: tuple[Program, Prometheus]) -> None:
    _, prometheus = world
    problems = []
    for title, expr in queries(file):
        found = prometheus.query(filled(expr))
        numbers = [one for one in found if one["value"][1] != "NaN"]
        if expr in NOTHING and numbers:
            problems.append(f"{title}: returns data now, so take it off the list: {expr}")
        if expr not in NOTHING and not numbers:
            problems.append(f"{title}: {'only NaN' if found else 'nothing'}: {filled(expr)}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_variable_has_values(file: Path, world: tuple[Program, Prometheus]) -> None:
    _, prometheus = world
    for variable in json.loads(file.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
            assert match, variable["query"]
            assert prometheus.get(f"label/{match[2]}/values", **{"match[]": match[1]}), variable["query"]


def test_nothing_on_the_list_is_forgotten() -> None:
    known = {expr for file in DASHBOARDS for _, expr in queries(file)}
    assert set(NOTHING) <= known


def test_the_figures_are_those_of_what_happened(world: tuple[Program, Prometheus]) -> None:
    _, prometheus = world
    assert prometheus.value('fishy_monitoring_psi{monitor="oxygen", feature="temperature"}') > 0.25
    assert prometheus.value('fishy_monitoring_open_data_faults{monitor="oxygen"}') == 1
    assert prometheus.value('fishy_deployment_has_problem{deployment="broken"}') == 1
    assert prometheus.value('sum(fishy_pipeline_runs_total{status="failed"})') >= 1
    assert prometheus.value('sum(fishy_pipeline_runs_total{status="succeeded"})') >= 1
    assert prometheus.value("sum(fishy_monitoring_triggers_total)") >= 1
    assert prometheus.value('fishy_monitoring_check_value{check="drift", test="psi", feature="temperature"}') > 0.25
    assert prometheus.value('fishy_monitoring_open_alarms{check="drift", severity="alert"}') >= 1
    assert 0 < prometheus.value('fishy_monitoring_other_slice_ratio{label="pen"}') < 1
    assert prometheus.value('fishy_monitoring_alerts_waiting{receiver="away"}') >= 1
    assert prometheus.value('fishy_monitoring_notifications_total{receiver="keeper", outcome="taken"}') >= 1
    assert prometheus.value('fishy_monitoring_queue_items_total{state="answered"}') == 4
    assert prometheus.value('fishy_monitoring_opinions_total{says="not_helpful"}') == 4
    # Days, not the seconds of a request.
    assert prometheus.value('fishy_monitoring_label_delay_seconds_bucket{le="21600"}') == 0
    assert prometheus.value('fishy_monitoring_label_delay_seconds_bucket{le="86400"}') > 0
    # Pending or firing: some wait before they fire.
    wanted = {"FishyDataFault", "FishyDrift", "FishyCheckAlarm", "FishyDeploymentProblem", "FishyPipelineFailed"}

    def raised() -> set[str]:
        return {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"]}

    until("the alerts are raised", lambda: wanted <= raised())
    assert not {"FishyDown", "FishyErrors", "FishyPredictionsFail", "FishyPredictionRecordsDropped"} & raised()


def test_every_recording_rule_has_a_value(world: tuple[Program, Prometheus]) -> None:
    _, prometheus = world
    for group in yaml.safe_load((ROOT / "deploy/prometheus/recording.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert prometheus.query(rule["record"]), rule["record"]
    for group in prometheus.get("rules")["groups"]:
        for rule in group["rules"]:
            assert rule["health"] == "ok", rule.get("lastError")


def test_the_rule_of_the_metrics_adapter_gives_a_wait(world: tuple[Program, Prometheus]) -> None:
    """As prometheus-adapter fills it in for the autoscaler of one deployment, by pod; an idle one waits for nothing."""
    _, prometheus = world
    rule = yaml.safe_load((ROOT / "deploy/prometheus/adapter.yml").read_text())[0]
    expr = rule["metricsQuery"].replace("<<.GroupBy>>", "instance")
    for deployment in ("oxygen", ".*"):
        found = prometheus.query(expr.replace("<<.LabelMatchers>>", f'deployment=~"{deployment}"'))
        assert len(found) == 1
        assert 0 <= float(found[0]["value"][1]) < 60
    assert rule["name"]["as"] == "fishy_inference_queue_seconds"


def check_metrics(text: str) -> None:
    """promtool's word: every metric has a help text, names and units are as Prometheus wants them."""
    done = subprocess.run(
        [needed("promtool", "prometheus"), "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (done.stdout + done.stderr).strip(), done.stdout + done.stderr


def test_promtool_has_nothing_to_say(world: tuple[Program, Prometheus]) -> None:
    program, _ = world
    text = program.get("/metrics")
    check_metrics(text)
    assert len(re.findall(r"^# HELP fishy_", text, re.MULTILINE)) > 30


def test_every_metric_of_rules_and_dashboards_is_in_the_sources() -> None:
    """A metric that is renamed takes its panels and alerts with it."""
    sources = "\n".join(
        file.read_text() for folder in ("libs", "services", "fishy") for file in (ROOT / folder).rglob("*.rs")
    )
    known = set(re.findall(r'"(fishy_[a-z_]+)"', sources))
    folders = [ROOT / "deploy/grafana/dashboards", ROOT / "deploy/prometheus"]
    for file in [file for folder in folders for file in folder.iterdir() if file.suffix in (".json", ".yml")]:
        for name in set(re.findall(r"\bfishy_[a-z_]+", file.read_text())):
            if name in ("fishy_inference_queue_seconds",):
                continue
            assert re.sub(r"_(bucket|sum|count)$", "", name) in known, f"{name} in {file.name}"


def test_what_is_broken_takes_nothing_away_from_the_others(world: tuple[Program, Prometheus]) -> None:
    """The probe of pods."""
    program, _ = world
    assert not answers(f"{program.url}/ready"), "a deployment has a problem"
    assert answers(f"{program.url}/ready/traffic")


@pytest.mark.parametrize("service", ["governance", "registry", "deployment", "monitoring", "pipelines"])
def test_each_service_alone_passes_too(service: str, fishy: str, tmp_path: Path) -> None:
    """Its neighbours and the broker are away: it serves all the same, and says that it is not ready."""
    nobody = free_port()
    variables = {
        f"FISHY__SERVICES__{name.upper()}": f"http://127.0.0.1:{nobody}" for name in SERVICES if name != service
    }
    variables["FISHY__BUS__URL"] = f"amqp://guest:guest@127.0.0.1:{nobody}/%2f"
    with Program(fishy, tmp_path / service, "serve", "--service", service, **variables) as program:
        until("it takes requests", lambda: answers(f"{program.url}/ready/traffic"))
        assert not answers(f"{program.url}/ready")
        check_metrics(program.get("/metrics"))
