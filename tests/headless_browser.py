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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

Event = dict[str, Any]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
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

    def receive(self, seconds: float = 90) -> Event:
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
        self,
        path: Path | str,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        touch: bool = False,
        script: str = "",
    ) -> Iterator[Page]:
        """The page at ``path``, a file or an address, in a tab of its own, loaded.

        ``script`` runs before the page's.
        """
        page = Page(self)
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        attached = page.call("Target.attachToTarget", targetId=target, flatten=True)
        page.session = attached["sessionId"]
        page.start(width, height, dark=dark, touch=touch)
        page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
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

    def start(self, width: int, height: int, *, dark: bool, touch: bool = False) -> None:
        for stream in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{stream}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=touch)  # fmt: skip
        if touch:
            self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path: Path | str) -> None:
        url = path if isinstance(path, str) else path.resolve().as_uri()
        self.call("Page.navigate", url=url)
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

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """``kind``: mousePressed, mouseReleased, mouseMoved with the button down, or mouseWheel."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x: float, y: float, modifiers: int = 0) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1, modifiers=modifiers)

    def drag(self, places: Sequence[tuple[float, float]], modifiers: int = 0) -> None:
        """Press the button at the first place, move over the others, and let go at the last."""
        down: dict[str, Any] = {"button": "left", "modifiers": modifiers}
        self.mouse("mousePressed", *places[0], clickCount=1, **down)
        for place in places[1:]:
            self.mouse("mouseMoved", *place, buttons=1, **down)
        self.mouse("mouseReleased", *places[-1], clickCount=1, **down)

    def touch(self, kind: str, *places: tuple[float, float]) -> None:
        """``kind``: touchStart, touchMove, or touchEnd (without places)."""
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def type(self, text: str) -> None:
        """``text`` into the field that has the focus."""
        self.call("Input.insertText", text=text)

    def wait_for(self, script: str, seconds: float = 10) -> Any:
        """The value of ``script`` once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.02)
        return value

    def press(self, key: str, modifiers: int = 0) -> None:
        """A key; ``modifiers``: 1 Alt, 2 Ctrl, 8 Shift. A letter is typed where a field has focus."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, modifiers=modifiers,
                      **(text if kind == "keyDown" else {}))  # fmt: skip

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
