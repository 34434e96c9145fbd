"""The rules, the scrape configuration and the dashboards, as far as files alone tell."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, needed, run
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))


@pytest.fixture(scope="module")
def promtool() -> str:
    return needed("promtool", "prometheus")


def test_rules_and_configuration_are_valid(promtool: str, tmp_path: Path) -> None:
    run(promtool, "check", "rules", "recording.yml", "alerts.yml", cwd=PROMETHEUS)
    run(promtool, "check", "config", "prometheus.yml", cwd=PROMETHEUS)
    # Debian's promtool is built without Kubernetes' service discovery; relabelling is checked all the same.
    cluster = yaml.safe_load((PROMETHEUS / "kubernetes.yml").read_text())
    assert cluster["scrape_configs"][0].pop("kubernetes_sd_configs") == [{"role": "pod"}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(cluster))
    run(promtool, "check", "config", tmp_path / "prometheus.yml")


def test_alerts_fire_when_they_should(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", "rules.test.yml", cwd=PROMETHEUS)


def test_every_rule_is_tested_and_every_alert_explains_itself() -> None:
    tested = (PROMETHEUS / "rules.test.yml").read_text()
    for file in ("recording.yml", "alerts.yml"):
        for group in yaml.safe_load((PROMETHEUS / file).read_text())["groups"]:
            for rule in group["rules"]:
                name = rule.get("alert") or rule["record"]
                assert name in tested, f"{name} has no test"
                if "alert" in rule:
                    assert rule["labels"]["severity"] in ("critical", "warning")
                    assert set(rule["annotations"]) == {"summary", "description"}


def test_dashboards_are_what_the_code_says() -> None:
    run(sys.executable, GRAFANA / "generate.py", "--check")
    names = ["data-quality", "deployment", "drift", "feedback", "overview", "pipelines"]
    assert [file.stem for file in DASHBOARDS] == names


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_grafana_knows_every_key(file: Path) -> None:
    """Read and written by Grafana's own model of a dashboard, nothing is lost and nothing comes to it."""
    text = json.loads(file.read_text())
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(text)))
    assert again == text

    panels = [panel for panel in text["panels"] if panel["type"] != "row"]
    places = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in places, f"{panel['title']} lies on another panel"
                places.add((x, y))
        assert panel["title"], "a panel without a title"
        assert panel["description"], f"{panel['title']} has no description"
        assert panel["targets"], panel["title"]
    variables = {variable["name"] for variable in text["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)", json.dumps([panel["targets"] for panel in panels])))
    assert used <= variables | {"__rate_interval"}, used - variables


def test_grafana_finds_what_is_provisioned() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    assert source["apiVersion"] == 1
    assert source["datasources"][0]["type"] == "prometheus"
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/fishy.yml").read_text())
    assert provider["apiVersion"] == 1
    assert provider["providers"][0]["type"] == "file"
    uids: list[Any] = [json.loads(file.read_text())["uid"] for file in DASHBOARDS]
    assert len(set(uids)) == len(uids)
