"""Requests that are wrong: both must refuse them in the same way."""

from .sides import Rest
from .world import Steps, World, operation


def bodies(run: str, experiment: str) -> list[tuple[str, str, dict]]:
    point = {"key": "a", "value": 1, "timestamp": 1, "step": 0}
    return [
        ("POST", "experiments/create", {}),
        ("POST", "experiments/create", {"name": 123}),
        ("POST", "experiments/create", {"name": ""}),
        ("POST", "experiments/create", {"name": "x" * 501}),
        ("POST", "experiments/create", {"name": "t", "tags": [{"key": "a" * 251, "value": "x"}]}),
        ("POST", "experiments/set-experiment-tag", {"experiment_id": experiment, "key": "k", "value": "x" * 20_001}),
        ("POST", "experiments/set-experiment-tag", {"experiment_id": experiment, "key": "", "value": "x"}),
        ("POST", "experiments/delete", {"experiment_id": "abc"}),
        ("POST", "experiments/update", {"experiment_id": experiment, "new_name": ""}),
        ("POST", "runs/create", {"experiment_id": "abc"}),
        ("POST", "runs/create", {"experiment_id": experiment, "start_time": "x"}),
        ("POST", "runs/log-metric", {"run_id": run}),
        ("POST", "runs/log-metric", {"run_id": run, "key": "a", "value": 1}),
        ("POST", "runs/log-metric", {"run_id": run, **point, "value": "many"}),
        ("POST", "runs/log-metric", {"run_id": run, **point, "value": "0.5"}),
        ("POST", "runs/log-metric", {"run_id": run, **point, "key": "../a"}),
        ("POST", "runs/log-metric", {"run_id": run, **point, "key": "a" * 251}),
        ("POST", "runs/log-metric", {"run_id": run, **point, "key": "a\u0007"}),
        ("POST", "runs/log-metric", {"run_id": "nope", **point}),
        ("POST", "runs/log-parameter", {"run_id": run, "value": "x"}),
        ("POST", "runs/log-parameter", {"run_id": run, "key": "p|q", "value": "x"}),
        ("POST", "runs/set-tag", {"run_id": run, "key": "/t", "value": "x"}),
        ("POST", "runs/set-tag", {"run_id": run, "key": 7, "value": "x"}),
        ("POST", "runs/log-batch", {"run_id": run, "metrics": [point] * 1001}),
        ("POST", "runs/log-batch", {"run_id": run, "params": [{"key": f"p{i}", "value": "1"} for i in range(101)]}),
        ("POST", "runs/log-batch", {"run_id": run, "params": [{"key": "p", "value": "1"}] * 2}),
        ("POST", "runs/log-batch", {"run_id": run, "metrics": "none"}),
        ("POST", "runs/log-batch", {"run_id": run, "metrics": [{**point, "key": ""}]}),
        ("POST", "runs/log-batch", {"run_id": run, "tags": [{"key": "t", "value": "x" * 9_000}]}),
        ("POST", "runs/log-batch", {}),
        ("POST", "runs/log-model", {"run_id": run, "model_json": "{}"}),
        ("POST", "runs/log-model", {"run_id": run, "model_json": "x"}),
        ("POST", "runs/search", {"experiment_ids": experiment}),
        ("POST", "registered-models/create", {"name": "a/b"}),
        ("POST", "registered-models/create", {"name": "a:b"}),
        ("POST", "registered-models/create", {"name": ""}),
        ("POST", "registered-models/create", {}),
        ("POST", "registered-models/alias", {"name": "none", "alias": "a", "version": "1"}),
        ("POST", "registered-models/alias", {"name": "none", "alias": "a"}),
        ("POST", "registered-models/alias", {"name": "none", "version": "1"}),
        ("POST", "registered-models/rename", {"name": "none"}),
        ("POST", "registered-models/set-tag", {"name": "none", "key": "a"}),
        ("PATCH", "registered-models/update", {"name": "none", "description": "x"}),
        ("DELETE", "registered-models/delete", {}),
        ("DELETE", "registered-models/alias", {"name": "none", "alias": "a"}),
        ("POST", "model-versions/create", {"name": "none", "source": "runs:/x/y"}),
        ("POST", "model-versions/create", {"name": "none"}),
        ("POST", "model-versions/create", {"name": "none", "source": "file:///etc"}),
        ("POST", "model-versions/create", {"name": "none", "source": "mlflow-artifacts:/../x"}),
        ("POST", "model-versions/transition-stage", {"name": "none", "version": "1", "stage": "x"}),
        ("POST", "model-versions/transition-stage", {"name": "none", "version": "1"}),
        ("POST", "model-versions/set-tag", {"name": "none", "version": "1", "key": "a", "value": "b"}),
        ("DELETE", "model-versions/delete", {"name": "none", "version": "1"}),
        ("DELETE", "model-versions/delete-tag", {"name": "none", "version": "1", "key": "a"}),
        ("PATCH", "model-versions/update", {"name": "none", "version": "x"}),
        ("POST", "logged-models", {"name": "n"}),
        ("POST", "logged-models", {"experiment_id": "987654321", "name": "n"}),
        ("POST", "logged-models/search", {"experiment_ids": [experiment], "order_by": [{"field_name": "params.a"}]}),
        ("PATCH", "logged-models/m-none", {"model_id": "m-none", "status": "LOGGED_MODEL_READY"}),
    ]


QUERIES = [
    ("experiments/get", {}),
    ("experiments/get", {"experiment_id": "abc"}),
    ("experiments/get-by-name", {"experiment_name": "none"}),
    ("runs/get", {}),
    ("runs/get", {"run_id": "nope"}),
    ("registered-models/get", {"name": "none"}),
    ("registered-models/alias", {"name": "none", "alias": "a"}),
    ("model-versions/get", {"name": "none", "version": "x"}),
    ("model-versions/get-download-uri", {"name": "none", "version": "1"}),
    ("logged-models/m-none", {}),
    ("artifacts/list", {}),
]


@operation(4)
def wrong_requests(world: World) -> Steps:
    if not world.runs:
        return
    for method, path, body in world.rng.sample(bodies(world.one(world.runs), world.one(world.experiments)), 3):
        yield Rest(method, path, body)
    path, query = world.one(QUERIES)
    yield Rest("GET", path, query=query)
    if world.chance(0.3):
        yield Rest("POST", "runs/set-tag", raw=b"{}", content_type="text/plain")


@operation(0.5)
def other_spellings(world: World) -> Steps:
    if not world.runs:
        return
    run = world.one(world.runs)
    time = world.tick()
    point = {"run_id": run, "key": "loss", "value": 0.5, "timestamp": time, "step": 2}
    yield Rest("POST", "runs/log-metric", point)
    yield Rest("POST", "runs/set-tag", {"run_uuid": run, "key": "old", "value": "name"})
    yield Rest("POST", "runs/set-tag", {"run_id": run, "runId": run, "key": "two", "value": "names"})
    yield Rest("GET", "/ajax-api/2.0/mlflow/runs/get", query={"run_uuid": run})
