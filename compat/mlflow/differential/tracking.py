"""Experiments, runs, and what they log."""

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)

from .sides import Rest, call
from .world import METRICS, PARAMS, TAGS, Steps, World, operation


@operation(1.5)
def create_experiment(world: World) -> Steps:
    name = f"experiment {world.number('experiment name') if world.chance(0.85) else 1}"
    made = yield call("create_experiment", name, tags=world.tags())
    if made:
        symbol = world.learn("exp", made.values)
        world.experiments.append(symbol)
        yield Rest("GET", "experiments/get", query={"experiment_id": symbol})
    yield call("get_experiment_by_name", name)


@operation(2)
def change_experiment(world: World) -> Steps:
    of = world.experiment()
    change = world.rng.randrange(4)
    if change == 0:
        yield call("set_experiment_tag", of, world.one(TAGS), world.text())
    elif change == 1:
        yield call("delete_experiment_tag", of, world.one(TAGS))
    elif change == 2 and of != "0":
        yield call("rename_experiment", of, f"renamed {world.rng.randrange(30)}")
    else:
        yield Rest("POST", "experiments/set-experiment-tag", {"experiment_id": of, "key": "raw", "value": "ü"})
    yield call("get_experiment", of)


@operation(0.7)
def delete_or_restore_experiment(world: World) -> Steps:
    of = world.experiment()
    if of == "0":
        return
    yield call("delete_experiment", of)
    if world.chance(0.4):
        yield call("create_run", of)
        yield call("set_experiment_tag", of, "a", "b")
        yield call("rename_experiment", of, "of a deleted one")
        yield call("delete_experiment", of)
    yield call("search_experiments", view_type=world.one([1, 2, 3]))
    yield call("restore_experiment", of)
    yield call("restore_experiment", of)
    if world.runs:
        yield call("get_run", world.run())


@operation(4)
def create_run(world: World) -> Steps:
    tags = world.tags()
    name = world.one(["first", "second run", "Größe", "7"])
    of = world.experiment()
    if of in world.experiments and world.chance(0.2):
        tags["mlflow.runName"] = "first"
    if world.chance(0.7):
        made = yield call("create_run", of, start_time=world.tick(), tags=tags, run_name=name)
        ids = [run.info.run_id for run in made.values] if made else []
    else:
        body = {"experiment_id": of, "start_time": world.tick(), "user_id": "ada", "run_name": name}
        body["tags"] = [{"key": key, "value": value} for key, value in tags.items()]
        made = yield Rest("POST", "runs/create", {key: value for key, value in body.items() if value is not None})
        ids = [answer["body"]["run"]["info"]["run_id"] for answer in made.values] if made else []
    if ids:
        symbol = world.learn("run", ids)
        world.runs.append(symbol)
        yield Rest("GET", "runs/get", query={"run_id": symbol})


@operation(3)
def change_run(world: World) -> Steps:
    run = world.run()
    change = world.rng.randrange(5)
    if change == 0:
        yield call("set_terminated", run, world.one(["FINISHED", "FAILED", "KILLED", None]), world.tick())
    elif change == 1:
        yield call("update_run", run, world.one(["RUNNING", "SCHEDULED", None]), world.one([None, "other name"]))
    elif change == 2:
        yield call("set_tag", run, "mlflow.runName", world.one(["by tag", "again"]))
    elif change == 3:
        yield Rest("POST", "runs/update", {"run_id": run, "run_name": "raw name", "end_time": world.tick()})
    else:
        yield Rest("POST", "runs/update", {"run_id": run, "status": world.one(["FINISHED", "RUNNING"])})
    yield call("get_run", run)


@operation(1)
def delete_or_restore_run(world: World) -> Steps:
    run = world.run()
    yield call("delete_run", run)
    yield call("log_metric", run, "rmse", 1.0, timestamp=world.tick())
    yield call("set_tag", run, "farm", "none")
    yield call("log_param", run, "late", "1")
    yield call("update_run", run, "FINISHED")
    yield call("get_run", run)
    if world.chance(0.3):
        yield call("delete_run", run)
    yield call("restore_run", run)
    if world.chance(0.3):
        yield call("restore_run", run)


@operation(6)
def log_metric(world: World) -> Steps:
    run, key = world.run(), world.one(METRICS)
    for _ in range(world.rng.randint(1, 4)):
        time = world.tick() if world.chance(0.8) else world.time_ms
        yield call("log_metric", run, key, world.value(key), timestamp=time, step=world.rng.randint(-1, 4))
    if world.chance(0.5):
        yield call("get_run", run)


@operation(3)
def log_params_and_tags(world: World) -> Steps:
    run, key = world.run(), world.one(PARAMS)
    yield call("log_param", run, key, world.one([1, 0.5, "x", True, None, ""]))
    if world.chance(0.4):
        yield call("log_param", run, key, world.one([1, "y"]))
    tag = world.one(TAGS)
    yield call("set_tag", run, tag, world.text())
    if world.chance(0.4):
        yield call("delete_tag", run, tag)
        yield call("delete_tag", run, tag)
    yield call("get_run", run)


@operation(4)
def log_batch(world: World) -> Steps:
    run = world.run()
    metrics = []
    for _ in range(world.rng.randint(0, 12)):
        key, time = world.one(METRICS), world.one([world.tick(), world.time_ms])
        metrics.append(Metric(key, world.value(key), time, world.rng.randint(0, 3)))
    if metrics and world.chance(0.3):
        metrics.append(metrics[0])
    params = [Param(key, str(world.rng.randint(0, 2))) for key in world.some(PARAMS)]
    if world.chance(0.1):
        params = params * 2
    tags = [RunTag(key, world.text()) for key in world.some(TAGS)]
    if tags and world.chance(0.2):
        tags.append(RunTag(tags[0].key, "the last one"))
    yield call("log_batch", run, metrics, params, tags)
    yield Rest("GET", "runs/get", query={"run_id": run})


@operation(3)
def metric_history(world: World) -> Steps:
    if not world.runs:
        return
    run, key = world.one(world.runs), world.one([*METRICS, "none"])
    yield call("get_metric_history", run, key)
    yield Rest("GET", "metrics/get-history", query={"run_id": run, "metric_key": key})
    if world.chance(0.4):
        query = {"run_id": run, "metric_key": key, "max_results": world.one([1, 2, 5, 0, -1])}
        yield Rest("GET", "metrics/get-history", query=query)


@operation(1.5)
def metric_histories(world: World) -> Steps:
    runs, key = world.some(world.runs, 4), world.one(METRICS)
    yield Rest("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", query={"run_id": runs, "metric_key": key})
    query = {"run_ids": runs, "metric_key": key, "max_results": world.one([1, 2, 3, 100])}
    if world.chance(0.5):
        query |= {"start_step": world.rng.randint(-1, 2), "end_step": world.rng.randint(0, 4)}
    yield Rest("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval", query=query)


@operation(2)
def log_inputs(world: World) -> Steps:
    run = world.run()
    inputs = []
    for _ in range(world.rng.randint(1, 3)):
        name = world.one(["water", "lice", "feed"])
        schema = world.one([None, '{"columns": []}'])
        dataset = Dataset(name, world.one(["d1", "d2"]), "local", '{"uri": "x"}', schema, world.one([None, "{}"]))
        tags = [InputTag("mlflow.data.context", world.one(["training", "test"]))] if world.chance(0.7) else []
        inputs.append(DatasetInput(dataset, tags))
    models = [LoggedModelInput(world.one(world.logged_models))] if world.logged_models and world.chance(0.3) else None
    yield call("log_inputs", run, inputs, models)
    yield Rest("GET", "runs/get", query={"run_id": run})
    if world.chance(0.5):
        body = {"experiment_ids": world.some(world.experiments, 3)}
        yield Rest("POST", "/ajax-api/2.0/mlflow/experiments/search-datasets", body)


@operation(2)
def create_logged_model(world: World) -> Steps:
    source = world.one(world.runs) if world.runs and world.chance(0.8) else None
    made = yield call(
        "create_logged_model",
        world.one(world.experiments),
        world.one(["net", "forest", "net 2", "a/b", "x.y"]),
        source,
        world.tags(),
        {key: world.text() for key in world.some(PARAMS)},
        world.one([None, "agent"]),
    )
    if made:
        symbol = world.learn("model", [model.model_id for model in made.values])
        world.logged_models.append(symbol)
        yield Rest("GET", f"logged-models/{symbol}")
        if source and world.chance(0.6):
            yield call("log_outputs", source, [LoggedModelOutput(symbol, world.rng.randint(0, 3))])
            yield call("get_run", source)


@operation(3)
def change_logged_model(world: World) -> Steps:
    model = world.logged_model()
    change = world.rng.randrange(6)
    if change == 0:
        yield call("finalize_logged_model", model, world.one(["READY", "FAILED", "PENDING"]))
    elif change == 1:
        yield call("set_logged_model_tags", model, world.tags())
    elif change == 2:
        yield call("delete_logged_model_tag", model, world.one(TAGS))
    elif change == 3:
        yield call("log_model_params", model, {key: world.text() for key in world.some(PARAMS)})
    elif model in world.logged_models:
        run = world.run()
        dataset = world.one([{}, {"dataset_name": "water", "dataset_digest": "d1"}])
        step, time = world.rng.randint(0, 2), world.tick()
        key, value = world.one(METRICS), round(world.rng.uniform(-2, 2), 2)
        yield call("log_metric", run, key, value, timestamp=time, step=step, model_id=model, **dataset)
    yield call("get_logged_model", model)
    yield Rest("GET", f"logged-models/{model}")


@operation(0.3)
def delete_logged_model(world: World) -> Steps:
    model = world.logged_model()
    yield call("delete_logged_model", model)
    yield call("get_logged_model", model)
    yield call("set_logged_model_tags", model, {"a": "b"})
    yield call("delete_logged_model", model)
    if model in world.logged_models:
        world.logged_models.remove(model)
