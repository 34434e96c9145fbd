"""Every operator of the search grammar on every kind of key, by the unmodified client against a running fishy."""

import os
import uuid

import pytest

URL = os.environ.get("FISHY_URL", "")
if not URL:
    pytest.skip("FISHY_URL is not set: there is no server to test", allow_module_level=True)

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Dataset, DatasetInput, InputTag, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

TIME_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def client():
    return MlflowClient(URL, URL)


def _all(search, **rest):
    """All results of a paged search, two at a time."""
    found, token = [], None
    while True:
        page = search(max_results=2, page_token=token, **rest)
        assert len(page) <= 2
        found += page
        token = page.token
        if not token:
            return found


# Runs 0 to 4: metric m is the number, parameter p and tag t are there from 1 on, run 4 is another user's and has ended.
@pytest.fixture(scope="module")
def runs(client):
    experiment = client.create_experiment(f"grammar-{uuid.uuid4().hex[:12]}")
    ids = []
    for i in range(5):
        tags = {"t": f"Pen {i}", "odd.key": str(i % 2)} if i else {}
        run_id = client.create_run(experiment, start_time=TIME_MS + i, tags=tags, run_name=f"Run-{i}").info.run_id
        client.log_metric(run_id, "m", float(i))
        client.log_metric(run_id, "val/m", -float(i))
        if i:
            client.log_param(run_id, "p", f"a_{i}%")
        ids.append(run_id)
    for i, (name, digest, context) in enumerate([("sea", "d0", "train"), ("Lake", "d1", "test")]):
        dataset = Dataset(name, digest, "local", "x")
        client.log_inputs(ids[i], [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])
    client.set_terminated(ids[4], "FAILED", end_time=TIME_MS + 100)
    return experiment, ids


RUNS = [
    ("metrics.m > 3", [4]),
    ("metrics.m >= 3", [3, 4]),
    ("metrics.m = 3", [3]),
    ("metrics.m != 3", [0, 1, 2, 4]),
    ("metrics.m < 1", [0]),
    ("metric.m <= 1", [0, 1]),
    ("metrics.`val/m` < -3.5", [4]),
    ('metrics."val/m" >= -1e0', [0, 1]),
    ("params.p = 'a_2%'", [2]),
    ("parameter.p != 'a_2%'", [1, 3, 4]),
    ("param.p LIKE 'a%'", [1, 2, 3, 4]),
    ("params.p LIKE 'A%'", []),
    ("params.p ILIKE 'A__\\%'", []),
    ("params.p ILIKE 'A_2_'", [2]),
    ("params.p IS NULL", [0]),
    ("params.p IS NOT NULL", [1, 2, 3, 4]),
    ("tags.t = 'Pen 1'", [1]),
    ("tag.t != 'Pen 1'", [2, 3, 4]),
    ("tags.t LIKE 'Pen _'", [1, 2, 3, 4]),
    ("tags.t ILIKE 'pEN 3'", [3]),
    ("tags.t IS NULL", [0]),
    ("tags.t IS NOT NULL", [1, 2, 3, 4]),
    ("tags.`odd.key` = '1'", [1, 3]),
    ("attributes.status = 'FAILED'", [4]),
    ("attr.status != 'FAILED'", [0, 1, 2, 3]),
    ("status LIKE 'RUN%'", [0, 1, 2, 3]),
    ("status ILIKE 'run%'", [0, 1, 2, 3]),
    ("run_name = 'Run-2'", [2]),
    ("attributes.`run name` != 'Run-2'", [0, 1, 3, 4]),
    ("attributes.run_name ILIKE 'run-_'", [0, 1, 2, 3, 4]),
    (f"start_time > {TIME_MS + 3}", [4]),
    (f"attributes.start_time >= {TIME_MS + 3}", [3, 4]),
    (f"start_time = {TIME_MS}", [0]),
    (f"start_time != {TIME_MS}", [1, 2, 3, 4]),
    (f"created < {TIME_MS + 1}", [0]),
    (f"start_time <= {TIME_MS + 1}", [0, 1]),
    (f"end_time = {TIME_MS + 100}", [4]),
    ("run_id = '{0}'", [0]),
    ("attributes.run_id IN ('{1}', '{3}')", [1, 3]),
    ("run_id NOT IN ('{1}', '{3}')", [0, 2, 4]),
    ("dataset.name = 'sea'", [0]),
    ("datasets.name != 'sea'", [1]),
    ("dataset.name LIKE 'L%'", [1]),
    ("dataset.name ILIKE 'l%'", [1]),
    ("dataset.name IN ('sea', 'Lake')", [0, 1]),
    ("dataset.name NOT IN ('sea')", [1]),
    ("dataset.digest = 'd1'", [1]),
    ("dataset.digest IN ('d0')", [0]),
    ("dataset.context = 'train'", [0]),
    ("dataset.context LIKE 't%'", [0, 1]),
    ("metrics.m > 0 AND params.p != 'a_1%' and tags.`odd.key` = '0'", [2, 4]),
    ("", [0, 1, 2, 3, 4]),
]


@pytest.mark.parametrize(("asked", "expected"), RUNS, ids=[asked for asked, _ in RUNS])
def test_runs(client, runs, asked, expected):
    experiment, ids = runs
    found = _all(client.search_runs, experiment_ids=[experiment], filter_string=asked.format(*ids))
    assert sorted(ids.index(one.info.run_id) for one in found) == expected


@pytest.mark.parametrize(
    "asked",
    [
        "metrics.m > 'a'",
        "metrics.m LIKE '1'",
        "metrics.m IS NULL",
        "params.p > 'a'",
        "params.p = 1",
        "tags.t IN ('a')",
        "status IN ('FAILED')",
        "start_time LIKE '1'",
        "start_time > 'yesterday'",
        "dataset.name > 'a'",
        "dataset.unknown = 'a'",
        "metrics.m > 1 OR metrics.m < 0",
        "(metrics.m > 1)",
        "metrics.m >",
        "metrics.m > 1 AND",
        "unknown.k = 'a'",
        "nothing = 'a'",
        "params.p = 'unclosed",
        "metrics.m > 1; metrics.m > 2",
    ],
)
def test_what_is_not_in_the_grammar_of_runs_is_refused(client, runs, asked):
    with pytest.raises(MlflowException) as refused:
        client.search_runs([runs[0]], asked)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


ORDERS = [
    (["metrics.m DESC"], [4, 3, 2, 1, 0]),
    (["metrics.m"], [0, 1, 2, 3, 4]),
    (["attributes.start_time ASC"], [0, 1, 2, 3, 4]),
    (["params.p DESC"], [4, 3, 2, 1, 0]),
    (["tags.`odd.key` ASC", "metrics.m DESC"], [4, 2, 3, 1, 0]),
    (["status ASC", "run_name DESC"], [4, 3, 2, 1, 0]),
    ([], [4, 3, 2, 1, 0]),
]


@pytest.mark.parametrize(("order", "expected"), ORDERS, ids=[" ".join(order) for order, _ in ORDERS])
def test_runs_in_order_page_by_page(client, runs, order, expected):
    experiment, ids = runs
    found = _all(client.search_runs, experiment_ids=[experiment], order_by=order)
    assert [ids.index(one.info.run_id) for one in found] == expected


@pytest.fixture(scope="module")
def experiments(client):
    prefix = f"Grammar-{uuid.uuid4().hex[:12]}"
    ids = [client.create_experiment(f"{prefix}-{i}", tags={"n": str(i)} if i else {}) for i in range(4)]
    client.delete_experiment(ids[3])
    return prefix, ids


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("name = '{p}-1'", [1]),
        ("attribute.name != '{p}-1'", [0, 2]),
        ("name LIKE '{p}-%'", [0, 1, 2]),
        ("name ILIKE '{l}-_'", [0, 1, 2]),
        ("experiment_id = '{0}'", [0]),
        ("experiment_id IN ('{0}', '{2}')", [0, 2]),
        ("experiment_id NOT IN ('{0}')", [1, 2]),
        ("creation_time > 0", [0, 1, 2]),
        ("creation_time >= 99999999999999", []),
        ("last_update_time <= 99999999999999", [0, 1, 2]),
        ("last_update_time != 1", [0, 1, 2]),
        ("tags.n = '1'", [1]),
        ("tag.n != '1'", [2]),
        ("tags.n LIKE '_'", [1, 2]),
        ("tags.n IS NULL", [0]),
        ("tags.n IS NOT NULL", [1, 2]),
    ],
)
def test_experiments(client, experiments, asked, expected):
    prefix, ids = experiments
    asked = asked.format(*ids, p=prefix, l=prefix.lower())
    only_ours = f"{asked} AND name LIKE '{prefix}-%'"
    found = _all(client.search_experiments, filter_string=only_ours, order_by=["name ASC"])
    assert [ids.index(one.experiment_id) for one in found] == expected


def test_deleted_experiments_are_found_when_asked_for_and_come_back(client, experiments):
    prefix, ids = experiments
    ours = f"name LIKE '{prefix}-%'"
    found = client.search_experiments(ViewType.DELETED_ONLY, filter_string=ours)
    assert [one.experiment_id for one in found] == [ids[3]]
    assert len(client.search_experiments(ViewType.ALL, filter_string=ours)) == 4
    client.restore_experiment(ids[3])
    assert len(client.search_experiments(filter_string=ours)) == 4
    client.delete_experiment(ids[3])


@pytest.fixture(scope="module")
def models(client):
    prefix = f"Grammar-{uuid.uuid4().hex[:12]}"
    names = [f"{prefix}-{i}" for i in range(4)]
    for i, name in enumerate(names):
        client.create_registered_model(name, tags={"n": str(i)} if i else {})
    experiment = client.create_experiment(prefix)
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "x", "m/file")
    for i in range(4):
        source = f"runs:/{run_id}/m"
        client.create_model_version(names[0], source, run_id, tags={"n": str(i)} if i else {})
    return prefix, names, run_id


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("name = '{p}-1'", [1]),
        ("name LIKE '{p}-%'", [0, 1, 2, 3]),
        ("name ILIKE '{l}-_'", [0, 1, 2, 3]),
        ("name IN ('{p}-0', '{p}-2')", [0, 2]),
        ("name != '{p}-1' AND name LIKE '{p}%'", [0, 2, 3]),
        ("tags.n = '1' AND name LIKE '{p}%'", [1]),
        ("tag.n != '1' AND name LIKE '{p}%'", [2, 3]),
        ("tags.n LIKE '_' AND name LIKE '{p}%'", [1, 2, 3]),
        ("tags.n ILIKE '3' AND name LIKE '{p}%'", [3]),
    ],
)
def test_registered_models(client, models, asked, expected):
    prefix, names, _ = models
    asked = asked.format(p=prefix, l=prefix.lower())
    found = _all(client.search_registered_models, filter_string=asked, order_by=["name ASC"])
    assert [names.index(one.name) for one in found] == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("name = '{p}-0'", [4, 3, 2, 1]),
        ("name LIKE '{p}%'", [4, 3, 2, 1]),
        ("name ILIKE '{l}%'", [4, 3, 2, 1]),
        ("name IN ('{p}-0', '{p}-1')", [4, 3, 2, 1]),
        ("run_id = '{r}'", [4, 3, 2, 1]),
        ("run_id IN ('{r}')", [4, 3, 2, 1]),
        ("source_path = 'runs:/{r}/m'", [4, 3, 2, 1]),
        ("source_path LIKE 'runs:/{r}%'", [4, 3, 2, 1]),
        ("name = '{p}-0' AND version_number = 2", [2]),
        ("name = '{p}-0' AND version_number != 2", [4, 3, 1]),
        ("name = '{p}-0' AND version_number >= 3", [4, 3]),
        ("name = '{p}-0' AND version_number < 2", [1]),
        ("name = '{p}-0' AND tags.n = '1'", [2]),
        ("name = '{p}-0' AND tags.n != '1'", [4, 3]),
        ("name = '{p}-0' AND tag.n LIKE '_'", [4, 3, 2]),
    ],
)
def test_versions(client, models, asked, expected):
    prefix, _, run_id = models
    asked = asked.format(p=prefix, l=prefix.lower(), r=run_id)
    found = _all(client.search_model_versions, filter_string=asked)
    assert [int(one.version) for one in found] == expected


@pytest.fixture(scope="module")
def logged(client):
    experiment = client.create_experiment(f"grammar-{uuid.uuid4().hex[:12]}")
    run_id = client.create_run(experiment).info.run_id
    ids = []
    for i in range(4):
        model = client.create_logged_model(
            experiment,
            name=f"Net-{i}",
            source_run_id=run_id if i else None,
            model_type="forest" if i < 2 else "tree",
            params={"p": str(i)} if i else {},
            tags={"t": str(i)},
        )
        client.log_metric(run_id, "m", float(i), model_id=model.model_id)
        ids.append(model.model_id)
    client.finalize_logged_model(ids[0], "READY")
    return experiment, ids, run_id


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("name = 'Net-1'", [1]),
        ("name != 'Net-1'", [0, 2, 3]),
        ("name LIKE 'Net-%'", [0, 1, 2, 3]),
        ("name ILIKE 'net-_'", [0, 1, 2, 3]),
        ("name IN ('Net-1', 'Net-2')", [1, 2]),
        ("name NOT IN ('Net-1', 'Net-2')", [0, 3]),
        ("model_id = '{0}'", [0]),
        ("model_type = 'tree'", [2, 3]),
        ("model_type != 'tree'", [0, 1]),
        ("source_run_id = '{r}'", [1, 2, 3]),
        ("creation_timestamp > 0", [0, 1, 2, 3]),
        ("last_updated_timestamp < 1", []),
        ("metrics.m > 2", [3]),
        ("metrics.m >= 2", [2, 3]),
        ("metrics.m = 2", [2]),
        ("metrics.m != 2", [0, 1, 3]),
        ("metrics.m < 1", [0]),
        ("metrics.m <= 1", [0, 1]),
        ("params.p = '1'", [1]),
        ("params.p != '1'", [2, 3]),
        ("params.p LIKE '_'", [1, 2, 3]),
        ("tags.t ILIKE '0'", [0]),
        ("tags.t = '3' AND model_type = 'tree'", [3]),
    ],
)
def test_logged_models(client, logged, asked, expected):
    experiment, ids, run_id = logged
    order = [{"field_name": "name", "ascending": True}]
    found = _all(
        client.search_logged_models,
        experiment_ids=[experiment],
        filter_string=asked.format(*ids, r=run_id),
        order_by=order,
    )
    assert [ids.index(one.model_id) for one in found] == expected
