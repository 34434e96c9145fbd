"""A fishy of a test's own, which can be killed."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def until(what, is_true, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := is_true()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)
    return found


class Server:
    """A fishy that can be killed and started again over the same folder."""

    def __init__(self, binary, folder, **settings):
        self.binary, self.settings = binary, settings
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url, self.folder, self.process = f"http://127.0.0.1:{self.port}", folder, None

    def start(self):
        command = [self.binary, "up", "--listen", f"127.0.0.1:{self.port}", "--data-dir", str(self.folder)]
        environment = os.environ | self.settings
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        until("a server that is ready", self.is_ready)

    def is_ready(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def deliveries(self, webhook_id):
        with urllib.request.urlopen(f"{self.url}/api/v1/registry/webhooks/{webhook_id}/deliveries") as answer:
            return json.load(answer)["items"]
