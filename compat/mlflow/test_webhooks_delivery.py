"""MLflow's webhooks: the unmodified client makes them, and a receiver of its own verifies every call.

The server is one of its own, so that it can be killed: `FISHY_BINARY=target/debug/fishy pytest test_webhooks.py`.
"""

import base64
import hashlib
import hmac
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

BINARY = os.environ.get("FISHY_BINARY", "")
if not BINARY:
    pytest.skip("FISHY_BINARY is not set: there is no server to start", allow_module_level=True)

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities.webhook import WebhookStatus  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from own_server import Server, until  # noqa: E402

SECRET = "what only the receiver knows"


class Receiver:
    """Keeps the calls whose signature is right; answers `status`."""

    def __init__(self):
        self.calls, self.status = [], 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                delivery = self.headers["X-MLflow-Delivery-Id"]
                signed = f"{delivery}.{self.headers['X-MLflow-Timestamp']}.{body}"
                digest = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
                expected = f"v1,{base64.b64encode(digest).decode()}"
                assert hmac.compare_digest(self.headers["X-MLflow-Signature"], expected)
                assert abs(time.time() - int(self.headers["X-MLflow-Timestamp"])) < 300
                receiver.calls.append((receiver.status, delivery, json.loads(body)))
                self.send_response(receiver.status)
                self.end_headers()
                self.wfile.write(b"thanks")

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def taken(self):
        """The calls that were answered with success: id and body."""
        return [(delivery, body) for status, delivery, body in list(self.calls) if status < 300]


@pytest.fixture
def server(tmp_path):
    server = Server(BINARY, tmp_path, FISHY__REGISTRY__WEBHOOK_PRIVATE_HOSTS='["127.0.0.1"]')
    server.start()
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()


def test_the_client_makes_lists_changes_tests_and_deletes_webhooks(server, receiver):
    client = MlflowClient(server.url, server.url)
    made = client.create_webhook(
        "hook", receiver.url, ["registered_model.created", "model_version.created"], description="all", secret=SECRET
    )
    assert (made.name, made.url, made.status, made.description) == ("hook", receiver.url, WebhookStatus.ACTIVE, "all")
    assert {str(event) for event in made.events} == {"registered_model.created", "model_version.created"}
    assert client.get_webhook(made.webhook_id).creation_timestamp == made.creation_timestamp
    assert [webhook.webhook_id for webhook in client.list_webhooks()] == [made.webhook_id]

    result = client.test_webhook(made.webhook_id, "model_version.created")
    assert (result.success, result.response_status, result.response_body) == (True, 200, "thanks")
    assert receiver.taken()[0][1]["data"]["name"] == "example_model"

    events = ["model_version_tag.set", "model_version_alias.created"]
    changed = client.update_webhook(made.webhook_id, events=events, status="DISABLED", name="other")
    assert (changed.name, changed.status, changed.description) == ("other", WebhookStatus.DISABLED, "all")
    client.delete_webhook(made.webhook_id)
    assert list(client.list_webhooks()) == []
    with pytest.raises(MlflowException, match="not found") as refused:
        client.get_webhook(made.webhook_id)
    assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    for url in ["http://169.254.169.254/", "http://localhost/", "ftp://example.com/"]:
        with pytest.raises(MlflowException) as refused:
            client.create_webhook("hook", url, ["registered_model.created"])
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_every_change_is_told_also_when_the_server_is_killed(server, receiver):
    client = MlflowClient(server.url, server.url)
    events = ["registered_model.created", "model_version_alias.created"]
    webhook = client.create_webhook("hook", receiver.url, events, secret=SECRET)
    client.create_registered_model("before", tags={"farm": "north"}, description="of a pen")
    until("the first call", lambda: len(receiver.taken()) == 1)
    expected = {"name": "before", "tags": {"farm": "north"}, "description": "of a pen"}
    assert receiver.taken()[0][1]["data"] == expected

    receiver.status = 503
    names = [f"model-{number}" for number in range(20)]
    for name in names:
        client.create_registered_model(name)
    until("a call that fails", lambda: any(status == 503 for status, _, _ in list(receiver.calls)))
    server.kill()
    receiver.status = 200
    server.start()
    until("all calls", lambda: len({delivery for delivery, _ in receiver.taken()}) == 21)
    told = list(dict(receiver.taken()).values())
    assert [body["data"]["name"] for body in told] == ["before", *names], "in the order of the changes"
    log = until(
        "the log of the last call",
        lambda: (items := server.deliveries(webhook.webhook_id)) and items[0]["state"] == "delivered" and items,
    )
    assert {item["state"] for item in log} == {"delivered"} and len(log) == 21
    assert log[-2]["attempts"] > 1, log[-2]
