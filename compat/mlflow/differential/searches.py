"""Searches: filters, orders, pages."""

from typing import Any

from .sides import Local, Rest, Side, call
from .world import CLIENT_TIME_MS, FILTERED_METRICS, METRICS, PARAMS, TAGS, Steps, World, operation

NUMBER_OPERATORS = [">", ">=", "<", "<=", "=", "!="]
TEXT_OPERATORS = ["=", "!=", "LIKE", "ILIKE"]


def quoted(text: str) -> str:
    text = text.replace('"', "")
    return '"' + text + '"' if "'" in text else f"'{text}'"


def key(world: World, keys: list[str]) -> str:
    name = world.one([*keys, "none"])
    quote = world.one(["`", '"']) if not name.isalnum() or world.chance(0.3) else ""
    return f"{quote}{name}{quote}"


def pattern(world: World) -> str:
    text = world.text()
    return quoted(world.one([text, text.upper(), f"%{text[1:]}", f"{text[:2]}%", "_%", "%", "_outh"]))


def text_comparison(world: World, what: str, null_tests: bool = False) -> str:
    if null_tests and world.chance(0.15):
        return f"{what} {world.one(['IS NULL', 'IS NOT NULL'])}"
    operator = world.one(TEXT_OPERATORS)
    return f"{what} {operator} {pattern(world) if 'LIKE' in operator else quoted(world.text())}"


def run_clause(world: World) -> str:
    kind = world.rng.randrange(9)
    if kind <= 1:
        number = world.one(["0", "1", "-0.5", "1e3", "0.25"])
        return (
            f"{world.one(['metrics', 'metric'])}.{key(world, FILTERED_METRICS)} {world.one(NUMBER_OPERATORS)} {number}"
        )
    if kind <= 3:
        return text_comparison(world, f"{world.one(['params', 'param', 'parameters'])}.{key(world, PARAMS)}", True)
    if kind <= 5:
        return text_comparison(world, f"{world.one(['tags', 'tag'])}.{key(world, TAGS)}", True)
    if kind == 6:
        column = world.one(["name", "digest", "context"])
        value = world.one(["water", "d1", "training", "x"])
        operator = world.one(["=", "!=", "LIKE", "ILIKE", "IN", "NOT IN"])
        return f"dataset.{column} {operator} {f'({value!r})' if 'IN' in operator else repr(value)}"
    time = CLIENT_TIME_MS + world.rng.randint(0, 500_000)
    return world.one(
        [
            f"attributes.start_time {world.one(NUMBER_OPERATORS)} {time}",
            f"end_time {world.one(NUMBER_OPERATORS)} {time}",
            f"attributes.status {world.one(['=', '!='])} {world.one(['FINISHED', 'RUNNING', 'failed'])!r}",
            f"run_name {world.one(TEXT_OPERATORS)} 'first'",
            "attributes.`Run Name` LIKE '%irs%'",
            "user_id = 'ada'",
            "attributes.artifact_uri LIKE '%artifacts'",
            f"run_id {world.one(['IN', 'NOT IN'])} {tuple(world.runs[:3])}" if len(world.runs) > 2 else "run_id = 'x'",
            f"attributes.lifecycle_stage = {world.one(['active', 'deleted'])!r}",
        ]
    )


def joined(world: World, clause: Any) -> str:
    return world.one([" and ", " AND "]).join(clause(world) for _ in range(world.one([0, 1, 1, 1, 2, 3])))


def run_order(world: World) -> list[str]:
    keys = [
        f"metrics.{key(world, METRICS)}",
        f"params.{key(world, PARAMS)}",
        f"tags.{key(world, TAGS)}",
        "attributes.start_time",
        "end_time",
        "status",
    ]
    # Not by name: of most runs it is invented, by each server its own.
    return [world.one(["", "{} ASC", "{} DESC", "{}"]).format(one) or one for one in world.some(keys, 2)]


def pages(method: str, *args: Any, **kwargs: Any) -> Local:
    """All pages of a search, at most five."""

    def steps(side: Side) -> dict[str, Any]:
        found: list[Any] = []
        token = None
        for _ in range(5):
            page = getattr(side.client, method)(*side.real(args), **side.real(kwargs), page_token=token)
            found += [*page, "end of page"]
            token = page.token
            if not token:
                break
        return {"items": found}

    return Local(f"pages of {method} {args} {kwargs}", steps)


@operation(8)
def search_runs(world: World) -> Steps:
    experiments = world.some(world.experiments, 4) if world.chance(0.5) else world.experiments
    filter_string, order = joined(world, run_clause), run_order(world)
    view = world.one([1, 1, 2, 3])
    if world.chance(0.5):
        yield call("search_runs", experiments, filter_string, view, order_by=order)
        return
    if world.chance(0.5):
        yield pages(
            "search_runs", experiments, filter_string, view, max_results=world.rng.randint(1, 6), order_by=order
        )
        return
    body = {"experiment_ids": experiments, "filter": filter_string, "order_by": order}
    body |= {"run_view_type": "ALL", "max_results": world.one([1, 5, 100])}
    yield Rest("POST", "runs/search", body)


def experiment_clause(world: World) -> str:
    kind = world.rng.randrange(5)
    if kind == 0:
        return text_comparison(world, f"tags.{key(world, TAGS)}", True)
    if kind == 1:
        return text_comparison(world, "name")
    return world.one(
        [
            "name LIKE 'exp%'",
            "attribute.name ILIKE 'EXP%'",
            "name != 'experiment 1'",
            "creation_time > 1000",
            "last_update_time >= 5",
            "creation_time < 1000",
            f"experiment_id IN {tuple(world.experiments[:2])}" if len(world.experiments) > 1 else "name = 'x'",
        ]
    )


@operation(2.5)
def search_experiments(world: World) -> Steps:
    order = [f"{name} {world.one(['ASC', 'DESC'])}" for name in world.some(["name", "creation_time"], 2)]
    kwargs = {"filter_string": joined(world, experiment_clause), "order_by": order or None}
    kwargs["view_type"] = world.one([1, 1, 2, 3])
    if world.chance(0.4):
        yield pages("search_experiments", max_results=world.rng.randint(1, 5), **kwargs)
    else:
        yield call("search_experiments", **kwargs)


def model_clause(world: World) -> str:
    return world.one(
        [
            text_comparison(world, f"tags.{key(world, TAGS)}"),
            text_comparison(world, "name"),
            "name LIKE 'model %'",
            "name ILIKE 'MODEL %'",
            "name IN ('model 1', 'model 2')",
        ]
    )


@operation(2)
def search_models(world: World) -> Steps:
    order = [f"{name} {world.one(['ASC', 'DESC'])}" for name in world.some(["name"], 1)]
    kwargs = {"filter_string": joined(world, model_clause), "order_by": order or None}
    if world.chance(0.4):
        yield pages("search_registered_models", max_results=world.rng.randint(1, 4), **kwargs)
    else:
        yield call("search_registered_models", **kwargs)
    if world.chance(0.3):
        yield Rest("GET", "registered-models/search", query={"max_results": 100})


def version_clause(world: World) -> str:
    return world.one(
        [
            text_comparison(world, f"tags.{key(world, TAGS)}"),
            f"name = {quoted(world.model())}",
            "name LIKE 'model %'",
            f"version_number {world.one(NUMBER_OPERATORS)} 2",
            f"run_id = '{world.run()}'",
            f"run_id IN {tuple(world.runs[:3])}" if len(world.runs) > 2 else "run_id = 'x'",
            "source_path LIKE 'runs:%'",
        ]
    )


@operation(2.5)
def search_versions(world: World) -> Steps:
    keys = ["name", "version_number", "creation_timestamp"]
    order = [f"{name} {world.one(['ASC', 'DESC'])}" for name in world.some(keys, 2)]
    kwargs = {"filter_string": joined(world, version_clause), "order_by": order or None}
    if world.chance(0.4):
        yield pages("search_model_versions", max_results=world.rng.randint(1, 5), **kwargs)
    else:
        yield call("search_model_versions", **kwargs)


def logged_model_clause(world: World) -> str:
    number = world.one(["0", "1", "-0.5"])
    clause = world.one(
        [
            f"metrics.{world.one(['rmse', 'loss'])} {world.one(NUMBER_OPERATORS)} {number}",
            text_comparison(world, world.one(["params.depth", "params.rate"])),
            text_comparison(world, world.one(["tags.farm", "tags.pen"])),
            "name LIKE 'n%'",
            "name = 'forest'",
            f"source_run_id = '{world.run()}'",
            "model_type = 'agent'",
            f"status = {world.one(['READY', 'PENDING'])!r}",
            "creation_timestamp > 5",
        ]
    )
    # MLflow reads a quote inside a quoted text differently in this search alone.
    return clause if "it's" not in clause.lower() else "name = 'forest'"


@operation(2.5)
def search_logged_models(world: World) -> Steps:
    order = None
    if world.chance(0.5):
        field = world.one(["name", "creation_time", f"metrics.{world.one(METRICS)}"])
        order = [{"field_name": field, "ascending": world.chance(0.5)}]
    experiments = world.some(world.experiments, 4) if world.chance(0.3) else world.experiments
    kwargs = {"filter_string": joined(world, logged_model_clause) or None, "order_by": order}
    if world.chance(0.4):
        yield pages("search_logged_models", experiments, max_results=world.rng.randint(1, 5), **kwargs)
    else:
        yield call("search_logged_models", experiments, **kwargs)


@operation(2)
def wrong_searches(world: World) -> Steps:
    wrong = [
        "metrics.rmse > 1 OR metrics.rmse < 0",
        "metrics.rmse = 'x'",
        "params.depth > '1'",
        "params.depth = 1",
        "tags.farm IN ('a')",
        "unknown = 'x'",
        "metrics.rmse >",
        "status IN ('a')",
        "start_time LIKE '1%'",
        "metrics.rmse IS NULL",
        "(metrics.rmse > 1)",
        "dataset.size = 'x'",
        "version_number = 'x'",
        "tags.a IS NULL",
        "=",
    ]
    filter_string = world.one(wrong)
    search = world.one(["search_experiments", "search_registered_models", "search_model_versions"])
    yield call("search_runs", world.experiments, filter_string)
    yield call(search, filter_string=filter_string)
    order = [world.one(["unknown", "metrics.rmse DOWN", "metrics.rmse ASC DESC", "start_time DESC, end_time"])]
    yield call("search_runs", world.experiments, order_by=order)
    yield call(search, order_by=order)
    yield Rest("POST", "runs/search", {"experiment_ids": world.experiments, "max_results": world.one([0, -1, 50001])})
    yield call("search_runs", world.experiments, page_token=world.one(["nonsense", "eyJ4IjogMn0="]))
