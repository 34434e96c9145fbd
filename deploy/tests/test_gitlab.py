"""The pipeline of GitLab, as far as it can be told without a GitLab."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from cluster import CONNECTIONS, documents
from conftest import ROOT, run, tool

FILE = ROOT / "deploy/gitlab/.gitlab-ci.yml"
BIN = Path(sys.executable).parent


def script() -> list[str]:
    """The commands of all jobs, each as one line."""
    jobs: dict[str, Any] = yaml.safe_load(FILE.read_text())
    texts = [line for job in jobs.values() if isinstance(job, dict) for line in job.get("script", [])]
    return [text.replace("\n", " ") for text in texts]


def test_it_is_what_gitlab_reads() -> None:
    """GitLab's own schema of such files."""
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", FILE)


def test_its_scripts_pass_shellcheck() -> None:
    done = subprocess.run(
        [BIN / "gitlab-ci-verify", "--no-lint-api", "--gitlab-ci-file", FILE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_jobs_have_a_stage_that_is_there() -> None:
    pipeline = yaml.safe_load(FILE.read_text())
    for name, job in pipeline.items():
        if name in ("stages", "variables", "workflow"):
            continue
        template = pipeline[job["extends"]] if "extends" in job else {}
        assert job.get("stage", template.get("stage")) in pipeline["stages"], name
        for needed in job.get("needs", []):
            assert needed in pipeline, f"{name} needs {needed}"


def test_parts_of_the_tests_and_stages_of_the_image_exist() -> None:
    parts = re.findall(r'"(\w+)"', re.search(r"const PARTS.*", (ROOT / "xtask/src/test.rs").read_text())[0])
    stages = re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "deploy/docker/Dockerfile").read_text(), re.MULTILINE)
    lines = script()
    named = [part for line in lines for list_ in re.findall(r"--only (\S+)", line) for part in list_.split(",")]
    assert sorted(named) == sorted(parts), "some parts are not tested, or twice"
    assert {target for line in lines for target in re.findall(r"--target (\S+)", line)} <= set(stages)


def test_helm_takes_the_roll_out(tmp_path: Path) -> None:
    (line,) = [line for line in script() if line.startswith("helm upgrade")]
    known = run(tool("helm"), "upgrade", "--help")
    for option in re.findall(r"(--[a-z-]+)", line):
        assert re.search(rf"{option}\b", known), f"helm upgrade has no {option}"
    # The same values, rendered.
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(CONNECTIONS))
    texts = {"$IMAGE": "registry/fishy", "$PYTHON_IMAGE": "registry/fishy-python", "$CI_COMMIT_SHA": "0123abc"}
    settings = re.findall(r'--set-string "([^"]+)"', line)
    for name in sorted(texts, key=len, reverse=True):
        settings = [setting.replace(name, texts[name]) for setting in settings]
    options = [word for setting in settings for word in ("--set-string", setting)]
    chart = ROOT / "deploy/helm/fishy"
    rendered = run(tool("helm"), "template", "fishy", chart, "--values", tmp_path / "values.yaml", *options)
    images = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]["containers"][0]["image"]
        for one in documents(rendered)
        if one["kind"] == "Deployment"
    }
    assert images.pop("fishy-pipelines") == "registry/fishy-python:0123abc"
    assert set(images.values()) == {"registry/fishy:0123abc"}
