"""MLflow's webhooks: what the unmodified client makes of them."""

import os

import pytest

URL = os.environ.get("FISHY_URL", "")
if not URL:
    pytest.skip("FISHY_URL is not set: there is no server to test", allow_module_level=True)

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities.webhook import WebhookStatus  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402


def test_the_client_makes_lists_changes_and_deletes_webhooks():
    client = MlflowClient(URL, URL)
    events = ["registered_model.created", "model_version.created"]
    made = client.create_webhook("hook", "https://1.1.1.1:9/x", events, description="all", secret="hush")
    assert (made.name, made.status, made.description) == ("hook", WebhookStatus.ACTIVE, "all")
    assert {str(event) for event in made.events} == set(events)
    assert client.get_webhook(made.webhook_id).creation_timestamp == made.creation_timestamp
    assert made.webhook_id in [webhook.webhook_id for webhook in client.list_webhooks(max_results=1000)]

    events = ["model_version_tag.set", "model_version_alias.created"]
    changed = client.update_webhook(made.webhook_id, events=events, status="DISABLED", name="other")
    assert (changed.name, changed.status, changed.description) == ("other", WebhookStatus.DISABLED, "all")
    assert {str(event) for event in changed.events} == set(events)
    client.delete_webhook(made.webhook_id)
    assert made.webhook_id not in [webhook.webhook_id for webhook in client.list_webhooks(max_results=1000)]
    with pytest.raises(MlflowException, match="not found") as refused:
        client.get_webhook(made.webhook_id)
    assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "http://localhost/", "ftp://example.com/", "https://[::1]/"]
)
def test_a_webhook_that_leads_into_a_private_network_is_refused(url):
    with pytest.raises(MlflowException) as refused:
        MlflowClient(URL, URL).create_webhook("hook", url, ["registered_model.created"])
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
