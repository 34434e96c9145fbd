"""Registered models, versions, aliases, stages."""

from .sides import Rest, call
from .world import ALIASES, TAGS, Steps, World, operation


@operation(1.5)
def create_model(world: World) -> Steps:
    name = f"model {world.number('model name') if world.chance(0.8) else 1}"
    description = world.one([None, "mg/L", "größer"])
    if world.chance(0.6):
        made = yield call("create_registered_model", name, world.tags(), description)
    else:
        tags = [{"key": key, "value": value} for key, value in world.tags().items()]
        made = yield Rest("POST", "registered-models/create", {"name": name, "tags": tags})
    if made:
        world.models[name] = []
        world.next_version[name] = 1
    yield Rest("GET", "registered-models/get", query={"name": name})


@operation(2)
def change_model(world: World) -> Steps:
    name = world.model()
    change = world.rng.randrange(4)
    if change == 0:
        yield call("update_registered_model", name, world.text())
    elif change == 1:
        yield call("set_registered_model_tag", name, world.one(TAGS), world.text())
    elif change == 2:
        yield call("delete_registered_model_tag", name, world.one(TAGS))
    else:
        new_name = world.one([f"renamed model {world.number('new model name')}", "model 1", name])
        renamed = yield call("rename_registered_model", name, new_name)
        if renamed and name in world.models and new_name != name:
            world.models[new_name] = world.models.pop(name)
            world.next_version[new_name] = world.next_version.pop(name)
        name = new_name
    yield call("get_registered_model", name)


@operation(0.25)
def delete_model(world: World) -> Steps:
    name = world.model()
    deleted = yield call("delete_registered_model", name)
    if deleted:
        world.models.pop(name, None)
    yield call("delete_registered_model", name)
    yield call("get_registered_model", name)
    world.models.pop(name, None)


@operation(4)
def create_version(world: World) -> Steps:
    if not world.runs:
        return
    name, run = world.model(), world.one(world.runs)
    model = world.one(world.logged_models) if world.logged_models and world.chance(0.4) else None
    source = f"models:/{model}" if model else f"runs:/{run}/model"
    run_id = run if model is None or world.chance(0.5) else None
    world.registered.add(model)
    if world.chance(0.7):
        description = world.one([None, "text"])
        made = yield call("create_model_version", name, source, run_id, world.tags(), None, description, model_id=model)
    else:
        body = {"name": name, "source": source, "run_id": run_id, "run_link": world.one([None, "http://a/b"])}
        body["model_id"] = model
        body = {key: value for key, value in body.items() if value is not None}
        made = yield Rest("POST", "model-versions/create", body)
    if made and name in world.models:
        world.models[name].append(world.next_version[name])
        world.next_version[name] += 1
        newest = str(world.models[name][-1])
        yield Rest("GET", "model-versions/get", query={"name": name, "version": newest})
        if model:
            yield call("get_model_version_download_uri", name, newest)


@operation(3)
def change_version(world: World) -> Steps:
    name = world.model()
    version = world.version(name)
    change = world.rng.randrange(6)
    if change == 0:
        yield call("update_model_version", name, version, world.text())
    elif change == 1:
        yield call("set_model_version_tag", name, version, world.one(TAGS), world.text())
    elif change == 2:
        yield call("delete_model_version_tag", name, version, world.one(TAGS))
    elif change == 3:
        yield Rest("GET", "registered-models/get", query={"name": name})
    else:
        stage = world.one(["Staging", "production", "Archived", "None", "live"])
        archives = stage in ("Staging", "production") and world.chance(0.5)
        yield call("transition_model_version_stage", name, version, stage, archives)
        yield call("get_latest_versions", name, world.one([["Production"], ["staging"], ["nowhere"]]))
    yield call("get_model_version", name, version)
    yield call("get_registered_model", name)


@operation(0.5)
def delete_version(world: World) -> Steps:
    name = world.model()
    versions = world.models.get(name, [])
    # Not the newest: its number would be given again by one side only.
    version = world.one(versions[:-1]) if len(versions) > 1 and versions[-1] + 1 == world.next_version[name] else 99
    yield call("delete_model_version", name, str(version))
    if version in versions:
        versions.remove(version)
    yield call("get_model_version", name, str(version))
    yield call("get_registered_model", name)


@operation(4)
def move_alias(world: World) -> Steps:
    name = world.model()
    alias = world.one(ALIASES) if world.chance(0.85) else world.one(["latest", "v3", "a b", "x" * 256, "V"])
    change = world.rng.randrange(5)
    if change <= 2:
        yield call("set_registered_model_alias", name, alias, world.version(name))
    elif change == 3:
        yield call("delete_registered_model_alias", name, alias)
    yield call("get_model_version_by_alias", name, alias)
    yield Rest("GET", "registered-models/alias", query={"name": name, "alias": alias})
    yield Rest("GET", "registered-models/get", query={"name": name})


@operation(0.7)
def copy_version(world: World) -> Steps:
    name = world.model()
    version = world.version(name)
    to = f"copied {world.number('copy')}"
    copied = yield call("copy_model_version", f"models:/{name}/{version}", to)
    if copied:
        world.models[to] = [1]
        world.next_version[to] = 2
        yield call("get_model_version", to, "1")
