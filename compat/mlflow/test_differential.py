"""The same random operations against a real MLflow server and fishy: every answer must be the same.

`FISHY_DIFFERENTIAL_SEED` and `FISHY_DIFFERENTIAL_COUNT` choose the sequence and its length.
"""

import os
import random
from collections import Counter

import pytest

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from differential import artifacts, mistakes, registry, searches, sides, tracking, webhooks, world

SEED = int(os.environ.get("FISHY_DIFFERENTIAL_SEED", "7"))
COUNT = int(os.environ.get("FISHY_DIFFERENTIAL_COUNT", "2500"))

assert all([artifacts, mistakes, registry, searches, tracking, webhooks]), "importing them registers their operations"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    with sides.running(tmp_path_factory.mktemp("differential")) as pair:
        yield pair


def test_every_answer_is_the_same(both):
    made = world.World(both, random.Random(SEED))
    failed, found = world.drive(made, COUNT)
    kinds = Counter(line.split("[")[1].split("]")[0] for line in found)
    assert not found, f"{len(found)} of {COUNT} answers differ: {kinds}\n" + "\n".join(found[:60])
    assert failed > COUNT / 20, "errors are among the answers"
    created = {kind: made.numbers.get(kind, 0) for kind in ("exp", "run", "model", "model name", "hook")}
    created |= {"version": sum(map(len, made.models.values())), "file": len(made.artifacts)}
    assert all(number >= COUNT / 500 for number in created.values()), created
    left_out = {steps.__name__ for steps, _ in world.REGISTERED} - set(made.asked)
    assert not left_out, f"no answer of these was compared: {left_out}"
    answered = {kind: made.asked[kind] - made.refused[kind] for kind in made.asked}
    for kind in ("create_version", "log_inputs", "files_of_version", "files_of_logged_model", "create_webhook"):
        assert answered[kind] > 0, f"{kind}: answers are compared, not only errors"
    for kind in ("files_of_version", "files_of_logged_model", "create_webhook"):
        assert made.refused[kind] > 0, f"{kind}: errors are compared too"


POINT = b'{"run_id": "RUN", "key": "a", "timestamp": 1, "value": '

# What MLflow accepts, corrupts or hides, and fishy refuses: docs/reference/mlflow-differences.md.
REFUSED = [
    ("runs/search", b"notjson"),
    ("runs/log-metric", POINT + b"NaN}"),
    ("runs/log-metric", POINT + b"1e400}"),
    ("runs/update", b'{"run_id": "RUN", "status": "DONE"}'),
    ("runs/create", b'{"experiment_id": "0", "tags": "x"}'),
    ("runs/log-inputs", b'{"run_id": "RUN", "datasets": [{"dataset": {"name": "d"}}]}'),
    ("runs/log-batch", b'{"run_id": "RUN", "tags": [{"key": "t", "value": "' + b"x" * 1_000_000 + b'"}]}'),
]


@pytest.mark.parametrize(("path", "body"), REFUSED, ids=range(len(REFUSED)))
def test_what_mlflow_lets_through_is_refused(both, path, body):
    statuses = []
    for side in both:
        run = side.client.create_run("0").info.run_id
        statuses.append(sides.Rest("POST", path, raw=body.replace(b"RUN", run.encode())).on(side)["status"])
    assert statuses == [200, 400]
