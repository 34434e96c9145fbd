"""Chromium without a window, driven by its own DevTools protocol: what a page shows, and what went wrong in it."""

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

TIMEOUT = 30.0
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Seen:
    """What a page did since it was opened."""

    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)


class Browser:
    """One browser with one page in it; use it as a context."""

    def __init__(self, pictures: Path, width: int = 1440, height: int = 1000):
        self.pictures, self.size = pictures, (width, height)
        self.seen = Seen()
        self._loop = asyncio.new_event_loop()
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future] = {}

    def __enter__(self):
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        assert program, f"none of {', '.join(PROGRAMS)} is installed"
        self.pictures.mkdir(parents=True, exist_ok=True)
        self._profile = tempfile.TemporaryDirectory(prefix="fishy-chromium-", ignore_cleanup_errors=True)
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
            f"--user-data-dir={self._profile.name}",
            f"--window-size={self.size[0]},{self.size[1]}",
        ]
        # The browser's own complaints (no D-Bus, no graphics card) are not the page's.
        self._process = subprocess.Popen(
            [program, *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            self._loop.run_until_complete(self._connect())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        self._loop.run_until_complete(self._disconnect())
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()
        self._loop.close()

    async def _connect(self):
        told = Path(self._profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + TIMEOUT
        while not (told.is_file() and "\n" in told.read_text()):
            assert self._process.poll() is None, f"the browser ended with {self._process.returncode}"
            assert time.monotonic() < deadline, "the browser did not start"
            await asyncio.sleep(0.05)
        port = told.read_text().split("\n")[0]
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
        self._reader = asyncio.ensure_future(self._read())
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self._call(f"{domain}.enable")

    async def _disconnect(self):
        if hasattr(self, "_reader"):
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if hasattr(self, "_socket"):
            await self._socket.close()
        if hasattr(self, "_session"):
            await self._session.close()

    async def _read(self):
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                answer = self._answers.pop(said["id"], None)
                if answer and not answer.done():
                    answer.set_result(said)
            else:
                self._note(said["method"], said["params"])

    def _note(self, event: str, what: dict):
        seen = self.seen
        if event == "Network.requestWillBeSent":
            parts = urlsplit(what["request"]["url"])
            if parts.scheme in ("http", "https"):
                request = f"{what['request']['method']} {parts.path}"
                seen.requests.append(request)
                seen.named[what["requestId"]] = request
                # The end of a worker's script is told to the worker.
                if not parts.path.endswith(".worker.js"):
                    seen.open.add(what["requestId"])
        elif event == "Network.responseReceived":
            status, request = what["response"]["status"], seen.named.get(what["requestId"])
            if status >= 400 and request:
                seen.failed.append(f"{status} {request}")
        elif event in ("Network.loadingFinished", "Network.loadingFailed"):
            seen.open.discard(what["requestId"])
            request = seen.named.get(what["requestId"])
            if event == "Network.loadingFailed" and request and not what.get("canceled"):
                seen.failed.append(f"{what['errorText']} {request}")
        elif event == "Runtime.exceptionThrown":
            thrown = what["exceptionDetails"]
            seen.errors.append(thrown.get("exception", {}).get("description") or thrown["text"])
        elif event == "Runtime.consoleAPICalled" and what["type"] == "error":
            seen.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in what["args"]))
        elif event == "Log.entryAdded" and what["entry"]["level"] == "error" and what["entry"]["source"] != "network":
            # What the network could not do is among the failed requests, with its method.
            seen.errors.append(what["entry"]["text"])

    async def _call(self, method: str, **params):
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        said = await asyncio.wait_for(self._answers[number], TIMEOUT)
        assert "error" not in said, f"{method}: {said['error']}"
        return said["result"]

    async def _evaluate(self, expression: str):
        said = await self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return said["result"].get("value")

    async def _until(self, condition, what):
        deadline = time.monotonic() + TIMEOUT
        while not await condition():
            if time.monotonic() > deadline:
                await self._picture("not-as-expected")
                shown = await self._evaluate("document.body.innerText")
                unanswered = [self.seen.named[one] for one in self.seen.open]
                told = f"failed: {self.seen.failed}, errors: {self.seen.errors}, unanswered: {unanswered}"
                raise AssertionError(f"{what}; the page shows:\n{shown}\n{told}")
            await asyncio.sleep(0.1)

    async def _picture(self, name: str, whole: bool = False):
        taken = await self._call("Page.captureScreenshot", format="png", **await self._part(whole))
        (self.pictures / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    async def _part(self, whole: bool):
        if not whole:
            return {}
        size = (await self._call("Page.getLayoutMetrics"))["cssContentSize"]
        return {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}

    def color_scheme(self, name: str):
        """Prefers `light` or `dark` pages from now on."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._loop.run_until_complete(self._call("Emulation.setEmulatedMedia", features=features))

    def open(self, url: str):
        """Opens a page anew: also when only what is behind the # differs."""

        async def go():
            await self._call("Page.navigate", url="about:blank")
            self.seen = Seen()
            await self._call("Page.navigate", url=url)

        self._loop.run_until_complete(go())

    def evaluate(self, expression: str):
        """The value of an expression in the page."""
        return self._loop.run_until_complete(self._evaluate(expression))

    def wait_for(self, *texts: str):
        """Waits until the page shows all these texts."""

        async def shows(text):
            return await self._evaluate(f"!!document.body && document.body.innerText.includes({json.dumps(text)})")

        async def wait():
            for text in texts:
                await self._until(lambda text=text: shows(text), f"no {text!r}")

        self._loop.run_until_complete(wait())

    def wait_until(self, expression: str):
        """Waits until an expression in the page is true."""

        async def wait():
            await self._until(lambda: self._evaluate(f"!!({expression})"), f"not true: {expression}")

        self._loop.run_until_complete(wait())

    def settle(self):
        """Waits until the page has asked for nothing for a while."""
        quiet = 0

        async def is_quiet():
            nonlocal quiet
            quiet = 0 if self.seen.open else quiet + 1
            return quiet > 5 and await self._evaluate("document.readyState") == "complete"

        self._loop.run_until_complete(self._until(is_quiet, "the page does not come to rest"))

    def picture(self, name: str, whole: bool = False):
        """Keeps a picture of the page: of what the window shows, or of all of it."""
        self._loop.run_until_complete(self._picture(name, whole))
