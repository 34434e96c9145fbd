"""MLflow's own web UI, served by a running fishy, in Chromium: `FISHY_URL=http://127.0.0.1:5000 pytest test_ui.py`.

The server is started with `--mlflow-ui`. Pictures of the pages are in `target/mlflow-ui`, or in `FISHY_UI_PICTURES`.
"""

import json
import os
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest

URL = os.environ.get("FISHY_URL", "")
if not URL:
    pytest.skip("FISHY_URL is not set: there is no server to test", allow_module_level=True)

from ui import seed  # noqa: E402
from ui.browser import Browser  # noqa: E402

UI = f"{URL}/mlflow/"
PICTURES = Path(os.environ.get("FISHY_UI_PICTURES", Path(__file__).parents[3] / "target/mlflow-ui"))

# The UI asks who is logged in; a server without a log-in page of its own, MLflow's too, has no such endpoint.
EXPECTED = {"404 GET /mlflow/ajax-api/2.0/mlflow/users/current"}
# The browser tells pages so whose layout takes two rounds.
HARMLESS = "ResizeObserver loop"


@pytest.fixture(scope="module")
def made():
    # A tracking URI with the UI's folder works as well: it is what the UI shows in its examples.
    return seed.make(UI.rstrip("/"))


@pytest.fixture(scope="module")
def browser():
    with Browser(PICTURES) as running:
        yield running


def check(browser, name):
    """The page has come to rest, nothing failed, and there is a picture of it."""
    browser.settle()
    browser.picture(name)
    seen = browser.seen
    assert not set(seen.failed) - EXPECTED, seen.failed
    errors = [one for one in seen.errors if HARMLESS not in one]
    assert not errors, "\n".join(errors)
    outside = [one for one in seen.requests if not one.split(" ")[1].startswith("/mlflow/")]
    assert not outside, "the page asks outside its own folder"
    assert seen.requests, "the page asked for something"
    shown = browser.evaluate("document.body.innerText")
    for trouble in ("Something went wrong", "Page Not Found", "Internal Server Error"):
        assert trouble not in shown, shown


def asked(browser, request):
    return any(one == request for one in browser.seen.requests)


def test_the_page_is_served_below_its_folder():
    with urllib.request.urlopen(f"{URL}/mlflow", timeout=30) as answer:
        assert answer.url == UI and "<title>MLflow</title>" in answer.read().decode()


def test_home(browser, made):
    browser.open(UI)
    browser.wait_for(made.experiment)
    check(browser, "home")


def test_experiment_list(browser, made):
    browser.open(f"{UI}#/experiments")
    browser.wait_for(made.experiment)
    check(browser, "experiments")


def test_run_list(browser, made):
    browser.open(f"{UI}#/experiments/{made.experiment_id}/runs")
    browser.wait_for(made.experiment, "night shift", "buoy readings")
    assert asked(browser, "POST /mlflow/graphql"), "the experiment is asked by GraphQL"
    check(browser, "runs")


def test_charts_of_runs(browser, made):
    browser.open(f"{UI}#/experiments/{made.experiment_id}/runs?compareRunsMode=CHART")
    browser.wait_for("night shift", "oxygen mae", "rmse")
    browser.wait_until("document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length >= 1")
    check(browser, "charts")


def test_logged_models_of_an_experiment(browser, made):
    browser.open(f"{UI}#/experiments/{made.experiment_id}/models")
    browser.wait_for("virtual-sensor", "night shift")
    check(browser, "logged-models")


def test_run(browser, made):
    browser.open(f"{UI}#/experiments/{made.experiment_id}/runs/{made.parent}")
    browser.wait_for("night shift", "oxygen mae", "depth_m", "ridge", "Finished", "buoy readings", made.model)
    browser.wait_for("Learns dissolved oxygen")
    check(browser, "run")


def test_metric_charts_of_a_run(browser, made):
    browser.open(f"{UI}#/experiments/{made.experiment_id}/runs/{made.parent}/model-metrics")
    browser.wait_for("oxygen mae", "rmse")
    browser.wait_until("document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length >= 1")
    assert asked(browser, "GET /mlflow/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval")
    check(browser, "run-metrics")


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("", ["config", "notes.txt", "pen.png", "readings.json"]),
        ("/notes.txt", ["the winter was mild"]),
        ("/config/sensors.json", ['"salinity"']),
        ("/readings.json", ["8.25", "7.75"]),
    ],
    ids=["list", "text", "json", "table"],
)
def test_artifacts(browser, made, path, texts):
    browser.open(f"{UI}#/experiments/{made.experiment_id}/runs/{made.parent}/artifacts{path}")
    browser.wait_for(*texts)
    check(browser, f"artifacts{path.replace('/', '-')}")


def test_an_image(browser, made):
    browser.open(f"{UI}#/experiments/{made.experiment_id}/runs/{made.parent}/artifacts/pen.png")
    browser.wait_for("pen.png")
    browser.wait_until("[...document.images].some(one => one.naturalWidth === 160 && one.naturalHeight === 120)")
    check(browser, "artifacts-pen.png")


def test_a_metric_of_several_runs(browser, made):
    runs = quote(json.dumps([made.parent, *made.children]))
    query = (
        f"runs={runs}&metric={quote(json.dumps('oxygen mae'))}&experiments={quote(json.dumps([made.experiment_id]))}"
    )
    plotted = f"&plot_metric_keys={quote(json.dumps(['oxygen mae']))}"
    browser.open(f"{UI}#/metric?{query}{plotted}")
    browser.wait_for("oxygen mae")
    browser.wait_until("document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length >= 3")
    check(browser, "metric")


def test_runs_side_by_side(browser, made):
    runs = quote(json.dumps([made.parent, *made.children]))
    browser.open(f"{UI}#/compare-runs?runs={runs}&experiments={quote(json.dumps([made.experiment_id]))}")
    browser.wait_for("night shift", "fold 1", "fold 2", "depth_m")
    check(browser, "compare")


def test_logged_model(browser, made):
    browser.open(f"{UI}#/experiments/{made.experiment_id}/models/{made.model_ids[0]}")
    browser.wait_for("virtual-sensor", made.model_ids[0])
    check(browser, "logged-model")


def test_registered_models(browser, made):
    browser.open(f"{UI}#/models")
    browser.wait_for(made.model, "champion")
    check(browser, "models")


def test_registered_model(browser, made):
    browser.open(f"{UI}#/models/{made.model}")
    browser.wait_for(made.model, "Oxygen of a pen, without an oxygen probe", "species", "Version 1", "Version 2")
    check(browser, "model")


def test_model_version(browser, made):
    browser.open(f"{UI}#/models/{made.model}/versions/1")
    browser.wait_for("trained before the winter", "reviewed", "night shift", "Inputs (3)")
    check(browser, "version")
