"""A page in headless Chromium, controlled through its debugging pipe; needs no package."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)  # fmt: skip
# Chromium reads commands from descriptor 3 and writes replies to descriptor 4.
LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)


def find_browser() -> str | None:
    """The path of Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """The process and its pipe; messages to and from the tab that is open."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self.pending, self.calls = b"", 0

    def call(
        self, method: str, session: str | None, take: Callable[[Event], None], **parameters: Any
    ) -> Event:
        """The result of one command; events that arrive before it go to ``take``."""
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while (reply := self.receive()).get("id") != self.calls:
            take(reply)
        assert "error" not in reply, (method, reply["error"])
        return reply["result"]

    def receive(self, seconds: float = 30) -> Event:
        deadline = time.monotonic() + seconds
        while b"\0" not in self.pending:
            left = max(0, deadline - time.monotonic())
            ready, _, _ = select.select([self.reading], [], [], left)
            chunk = os.read(self.reading, 1 << 20) if ready else b""
            assert chunk, "the browser did not reply"
            self.pending += chunk
        message, self.pending = self.pending.split(b"\0", 1)
        return json.loads(message)

    @contextlib.contextmanager
    def opened(
        self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> Iterator[Page]:
        """The page at ``path`` in a tab of its own, loaded."""
        page = Page(self)
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        attached = page.call("Target.attachToTarget", targetId=target, flatten=True)
        page.session = attached["sessionId"]
        page.start(width, height, dark=dark)
        page.open(path)
        yield page
        page.session = None
        page.call("Target.closeTarget", targetId=target)


class Page:
    """One tab. ``errors`` are the errors of console and page, ``requests`` the requested addresses
    without data URIs."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.events: list[str] = []
        self.session: str | None = None

    def start(self, width: int, height: int, *, dark: bool) -> None:
        for stream in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{stream}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path: Path) -> None:
        self.call("Page.navigate", url=path.resolve().as_uri())
        while "Page.loadEventFired" not in self.events:
            self.take(self.browser.receive())
        self.run("new Promise(done => setTimeout(done, 50))")

    def call(self, method: str, **parameters: Any) -> Event:
        return self.browser.call(method, self.session, self.take, **parameters)

    def run(self, script: str) -> Any:
        reply = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def point(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        reply = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(reply["data"]))

    def take(self, event: Event) -> None:
        method, parameters = event.get("method", ""), event.get("params", {})
        if event.get("sessionId") != self.session:
            return
        self.events.append(method)
        if method == "Runtime.consoleAPICalled" and parameters["type"] in (
            "error",
            "assert",
            "warning",
        ):
            self.errors.append(" ".join(str(a.get("value")) for a in parameters["args"]))
        elif method == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            self.requests += [] if url.startswith("data:") else [url]


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """A running browser with a profile of its own."""
    executable = find_browser()
    assert executable is not None
    their_input, ours_out = os.pipe()
    ours_in, their_output = os.pipe()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (their_input, their_output)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [sys.executable, "-c", LAUNCH, *map(str, high), executable, *FLAGS,
                   f"--user-data-dir={profile}"]  # fmt: skip
        with subprocess.Popen(command, pass_fds=high, stderr=subprocess.DEVNULL) as process:
            for fd in (their_input, their_output, *high):
                os.close(fd)
            try:
                yield Browser(ours_in, ours_out)
            finally:
                process.kill()
                os.close(ours_in)
                os.close(ours_out)
