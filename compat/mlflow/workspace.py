"""A server of the shape of a Databricks workspace, over a real MLflow server: no workspace is at hand for tests.

What it does otherwise than MLflow's server is what MLflow's own client knows of Databricks: registered models only
below ``/unity-catalog``, with names of three levels, whose versions wait for their files; those files by
``/api/2.0/fs``; files of runs and logged models by addresses that are signed for each, which take no token; nothing of
MLflow's artifact doors.

    python compat/mlflow/workspace.py --mlflow URL --port PORT --token TOKEN
"""

import argparse
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
CATALOG = f"{API}/unity-catalog"
FILES, FOLDERS = "/api/2.0/fs/files/", "/api/2.0/fs/directories/"
SDK = "registered-models:is-databricks-sdk-models-artifact-repository-enabled"


def told_there(body):
    """Where files are, as a workspace says it."""
    return re.sub(
        rb"mlflow-artifacts:/(\d+)/(models/)?",
        lambda uri: b"dbfs:/databricks/mlflow-tracking/" + uri[1] + (b"/logged_models/" if uri[2] else b"/"),
        body,
    )


def told_here(body):
    """The same, as the MLflow server says it."""
    return body.replace(b"dbfs:/databricks/mlflow-tracking/", b"mlflow-artifacts:/").replace(
        b"/logged_models/", b"/models/"
    )


class RefusedError(Exception):
    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code


class Workspace(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, mlflow, token, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.mlflow, self.token = mlflow, token
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock, self.pending, self.files = Lock(), set(), {}
        # What was shown as a token: to the workspace, and to the store of its cloud.
        self.shown, self.shown_to_cloud = set(), set()

    def ask(self, method, path, body=None, kind="application/json"):
        """Asks the MLflow server behind it."""
        headers = {"Content-Type": kind} if body is not None else {}
        request = urllib.request.Request(f"{self.mlflow}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def told(self, path):
        status, body = self.ask("GET", path)
        if status != 200:
            raise RefusedError(status, "INTERNAL_ERROR", body.decode())
        return json.loads(body)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", kind="application/json"):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def handle_any(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        body = self.body()
        try:
            if url.path == "/signed":
                return self.signed(query, body)
            if url.path.startswith("/.well-known/"):
                raise RefusedError(404, "NOT_FOUND", "this is asked before anybody says who it is")
            shown = self.headers.get("Authorization")
            self.server.shown.add(shown)
            if shown != f"Bearer {self.server.token}":
                raise RefusedError(401, "UNAUTHENTICATED", "the token is not known")
            if url.path.startswith(CATALOG):
                return self.catalog(url.path.removeprefix(CATALOG + "/"), url.query, query, body)
            if url.path.startswith((FILES, FOLDERS)):
                return self.file(urllib.parse.unquote(url.path), query, body)
            if "/credentials-for-" in url.path:
                return self.credentials(url.path, json.loads(body))
            is_registry = url.path.startswith((f"{API}/registered-models", f"{API}/model-versions"))
            if not url.path.startswith(API + "/") or is_registry:
                raise RefusedError(404, "ENDPOINT_NOT_FOUND", f"nothing is at {url.path}")
            self.names_are_paths(url.path, body)
            status, answer = self.server.ask(self.command, self.path, told_here(body) or None)
            self.answer(status, told_there(answer))
        except RefusedError as refused:
            self.answer(refused.status, {"error_code": refused.code, "message": str(refused)})

    def do_GET(self):
        self.handle_any()

    def do_HEAD(self):
        self.handle_any()

    def do_POST(self):
        self.handle_any()

    def do_PUT(self):
        self.handle_any()

    def do_PATCH(self):
        self.handle_any()

    def do_DELETE(self):
        self.handle_any()

    def names_are_paths(self, path, body):
        if path == f"{API}/experiments/create" and not json.loads(body)["name"].startswith("/"):
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", "experiments are named by their path")

    def catalog(self, route, text, query, body):
        """Unity Catalog: the registry of the MLflow server, with what it does otherwise."""
        server, said = self.server, json.loads(body) if body else query
        if route == SDK:
            return self.answer(200, {"is_databricks_sdk_models_artifact_repository_enabled": True})
        if "name" in said and len(said["name"].split(".")) != 3:
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"{said['name']} has not three levels")
        if route == "model-versions/finalize":
            version = (said["name"], said["version"])
            if not any(path.startswith(self.folder(*version)) for path in server.files):
                raise RefusedError(400, "INVALID_STATE", "the version has no files")
            server.pending.discard(version)
            told = server.told(f"{API}/model-versions/get?{urllib.parse.urlencode(said)}")
            return self.answer(200, told)
        if route == "model-versions/transition-stage" or "order_by" in query:
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", "Unity Catalog does not take this")
        status, answer = server.ask(self.command, f"{API}/{route}?{text}", told_here(body) or None)
        answer = told_there(answer)
        if status != 200:
            return self.answer(status, answer)
        told = json.loads(answer) if answer else {}
        if route == "model-versions/create":
            made = told["model_version"]
            server.pending.add((made["name"], made["version"]))
        versions = told.get("model_versions", []) + ([told["model_version"]] if "model_version" in told else [])
        for version in versions:
            version.pop("current_stage", None)
            if (version["name"], version["version"]) in server.pending:
                version["status"] = "PENDING_REGISTRATION"
            if route.endswith("/search"):
                version.pop("tags", None), version.pop("aliases", None)
        return self.answer(200, told)

    @staticmethod
    def folder(name, version):
        return f"Models/{name.replace('.', '/')}/{version}/"

    def file(self, path, query, body):
        files = self.server.files
        if path.startswith(FOLDERS):
            folder = path.removeprefix(FOLDERS).strip("/") + "/"
            below = {name.removeprefix(folder): len(held) for name, held in files.items() if name.startswith(folder)}
            if not below:
                raise RefusedError(404, "NOT_FOUND", f"no folder {folder}")
            if self.command == "HEAD":
                return self.answer(200)
            names = sorted({name.split("/")[0] for name in below})
            # One a page, so that pages are followed.
            at = int(query.get("page_token", 0))
            name = names[at]
            entry = {"path": f"/{folder}{name}", "name": name, "is_directory": name not in below}
            if name in below:
                entry["file_size"] = below[name]
            more = {"next_page_token": str(at + 1)} if at + 1 < len(names) else {}
            return self.answer(200, {"contents": [entry], **more})
        path = path.removeprefix(FILES)
        if self.command == "PUT":
            if "Content-Length" not in self.headers:
                raise RefusedError(411, "INVALID_PARAMETER_VALUE", "how long is it?")
            files[path] = body
            return self.answer(204)
        if path not in files:
            raise RefusedError(404, "NOT_FOUND", f"no file {path}")
        return self.answer(200, files[path], "application/octet-stream")

    def credentials(self, path, said):
        def signed(owner, path):
            query = urllib.parse.urlencode({"owner": owner, "path": path, "signature": "s"})
            headers = [{"name": "x-signed", "value": "yes"}]
            return {"signed_uri": f"{self.server.url}/signed?{query}", "headers": headers, "type": "AWS_PRESIGNED_URL"}

        if "/logged-models/" in path:
            owner = f"logged-models/{path.split('/')[5]}"
            told = [{"credential_info": signed(owner, each)} for each in said["paths"]]
            return self.answer(200, {"credentials": told})
        told = [{"path": each, **signed(f"runs/get?run_id={said['run_id']}", each)} for each in said["path"]]
        return self.answer(200, {"credential_infos": told})

    def signed(self, query, body):
        """The store of the cloud."""
        self.server.shown_to_cloud.add(self.headers.get("Authorization"))
        if self.headers.get("Authorization") or self.headers.get("x-signed") != "yes":
            raise RefusedError(403, "PERMISSION_DENIED", "only what was signed is taken, and no token")
        if self.command == "PUT" and "Content-Length" not in self.headers:
            raise RefusedError(411, "INVALID_PARAMETER_VALUE", "how long is it?")
        told = self.server.told(f"{API}/{query['owner']}")
        info = (told.get("run") or told.get("model"))["info"]
        root = info["artifact_uri"].removeprefix("mlflow-artifacts:/")
        path = urllib.parse.quote(f"{root}/{query['path']}")
        status, answer = self.server.ask(
            self.command, f"{ARTIFACTS}/{path}", body if self.command == "PUT" else None, "application/octet-stream"
        )
        return self.answer(status, answer, "application/octet-stream")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    for name in ["mlflow", "port", "token"]:
        arguments.add_argument(f"--{name}", required=True)
    chosen = arguments.parse_args()
    Workspace(chosen.mlflow, chosen.token, int(chosen.port)).serve_forever()
