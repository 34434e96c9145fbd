"""Webhooks: made, changed, listed and deleted. All are switched off, so that nobody is called."""

from .sides import Rest, call
from .world import Steps, World, operation

EVENTS = [
    "registered_model.created",
    "model_version.created",
    "model_version_tag.set",
    "model_version_alias.created",
    "model_version_alias.deleted",
]
# An address of its own, so that neither server asks for a name.
URL = "https://93.184.216.34/hook"
WRONG_URLS = ["ftp://93.184.216.34/x", "https://127.0.0.1/x", "https://10.0.0.7/", "nonsense"]


def url(world: World) -> str:
    return world.one([URL, f"{URL}?a=b"]) if world.chance(0.75) else world.one(WRONG_URLS)


@operation(2.5)
def create_webhook(world: World) -> Steps:
    good, wrong = ["hook-1", "hook.2", "a", "x" * 63], ["bad name!", "-x", "x" * 64]
    name = world.one(good if world.chance(0.75) else wrong)
    events = world.some(EVENTS) or [EVENTS[0]]
    made = yield call("create_webhook", name, url(world), events, world.one([None, "of pen 7"]), None, "DISABLED")
    if made:
        symbol = world.learn("hook", [webhook.webhook_id for webhook in made.values])
        world.webhooks.append(symbol)
        yield call("get_webhook", symbol)
    yield call("list_webhooks", world.one([None, 1, 2, 100]))


@operation(1)
def change_webhook(world: World) -> Steps:
    webhook = world.webhook()
    change = world.rng.randrange(6)
    if change == 0:
        yield call("update_webhook", webhook, name=world.one(["hook-3", "bad name!"]))
    elif change == 1:
        yield call("update_webhook", webhook, description=world.one(["other", "größer"]))
    elif change == 2:
        yield call("update_webhook", webhook, url=url(world))
    elif change == 3:
        yield call("update_webhook", webhook, events=world.some(EVENTS) or [EVENTS[1]])
    elif change == 4:
        # MLflow answers 500 to an event of an unknown entity.
        yield Rest("POST", "webhooks", {"name": "x", "url": URL, "events": world.one([[], "none"])})
    elif world.chance(0.5):
        yield call("delete_webhook", webhook)
        yield call("delete_webhook", webhook)
        if webhook in world.webhooks:
            world.webhooks.remove(webhook)
    yield call("get_webhook", webhook)
    yield Rest("GET", "webhooks", query={"max_results": world.one([1, 3, 1000])})
