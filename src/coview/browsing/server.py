"""The server of a page over images: on this machine alone, for who has its address.

It binds 127.0.0.1. Every request must name that host, so that no other site can reach it under a
name of its own (DNS rebinding), and carry the token of the printed address, as a cookie after the
first page. What changes something must come from its own page (the header Origin). A request names
the version of its page: the rows of a page of an earlier start are those of other images. No text
of a request is ever a path of a file.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from coview.browsing.annotations import Annotations
from coview.browsing.collection import Collection
from coview.browsing.page import served_page
from coview.browsing.requests import MAX_BODY, Reply, Requests, single
from coview.core.errors import CoviewError, InvalidValue
from coview.core.progress import say

HOST = "127.0.0.1"
SECONDS_OF_SILENCE = 60

Query = Mapping[str, list[str]]


class BrowseServer:
    """A page over ``collection``, served from threads of this process until :meth:`close`.

    ``port`` 0 takes a free one. Raises InvalidValue where the port cannot be had.

    >>> from pathlib import Path
    >>> import tempfile
    >>> import numpy as np
    >>> from coview.core.images import store_from_arrays
    >>> store = store_from_arrays(np.zeros((4, 8, 8, 3), np.uint8))
    >>> collection = Collection(title="four", store=store, paths=[None] * 4,
    ...     points=np.zeros((4, 2), np.float32), vectors=np.eye(4, dtype=np.float32))
    >>> tags = Annotations(Path(tempfile.mkdtemp()) / "tags.csv", ids=store.ids, names=store.names,
    ...     paths=collection.paths)
    >>> with BrowseServer(collection, tags) as server:
    ...     server.address.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, collection: Collection, annotations: Annotations, *, port: int = 0) -> None:
        self.annotations = annotations
        self.token, self.version = secrets.token_urlsafe(24), secrets.token_hex(4)
        requests = Requests(collection, annotations)
        page = served_page(collection, self.version)
        try:
            self._server = _Server((HOST, port), requests, page, self.token, self.version)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InvalidValue(
                f"`port` {port} of {HOST} cannot be used: {reason}. Leave it out for a free one."
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """Where the page is; with the token, without which nothing is shown."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    def address_once(self) -> str:
        """One that opens the page a single time: for the command line of a browser, which other
        users of the machine can read."""
        token = secrets.token_urlsafe(24)
        self._server.tokens_once.add(token)
        return f"http://{HOST}:{self.port}/?token={token}"

    def wait(self) -> None:
        """Return when the server is closed, or at Ctrl-C, which closes it."""
        try:
            say("Ctrl-C ends.")
            while self._thread.is_alive():
                self._thread.join(0.5)
        except KeyboardInterrupt:
            self.close()

    def close(self) -> None:
        """Stop answering. Nothing is lost: every change is written when it is made."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A second server on the port would answer some of the requests.
    allow_reuse_address = sys.platform != "win32"

    def __init__(
        self, place: tuple[str, int], requests: Requests, page: str, token: str, version: str
    ) -> None:
        self.requests, self.page = requests, page.encode()
        self.token, self.version = token, version
        self.tokens_once: set[str] = set()
        super().__init__(place, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone is no error; any other keeps its traceback."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "coview", ""
    timeout = SECONDS_OF_SILENCE
    wbufsize = 1 << 16
    disable_nagle_algorithm = True  # else each small reply waits for 40 ms

    def do_GET(self) -> None:
        if not self._is_from_here():
            return
        address = urlsplit(self.path)
        query = parse_qs(address.query, keep_blank_values=True)
        if address.path == "/":
            self._send_page(query)
        elif not self._has_cookie():
            self._refuse(403, "Open the address that `coview browse` printed.")
        else:
            self._reply(GET.get(address.path), query)

    def do_POST(self) -> None:
        if not self._is_from_here():
            return
        address = urlsplit(self.path)
        host = self.headers.get("Host", "")
        if not self._has_cookie() or self.headers.get("Origin", "") != f"http://{host}":
            self._refuse(403, "Only the page that `coview browse` serves may do this.")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or self.headers.get("Transfer-Encoding"):
            self._refuse(411, "The length of the request is missing.")
        elif int(length) > MAX_BODY:
            self._refuse(413, f"The file is larger than {MAX_BODY >> 20} MiB.")
        else:
            body = self.rfile.read(int(length))
            query = parse_qs(address.query, keep_blank_values=True)
            answer = POST.get(address.path)
            self._reply(None if answer is None else partial(answer, body), query)

    def _reply(self, answer: Callable[[Requests, Query], Any] | None, query: Query) -> None:
        if answer is None:
            self._refuse(404, "There is nothing here.")
            return
        if query.get("v") != [self.server.version]:
            self._refuse(409, "This page is of an earlier `coview browse`: load the page again.")
            return
        try:
            value = answer(self.server.requests, query)
        except CoviewError as error:
            self._refuse(400, str(error))
            return
        if not isinstance(value, Reply):
            value = Reply(json.dumps(value).encode(), "application/json")
        self._send(200, value.body, value.kind, cache=value.is_fixed)

    def _send_page(self, query: Query) -> None:
        token = query.get("token", [""])[0]
        by_token = hmac.compare_digest(token.encode(), self.server.token.encode())
        with contextlib.suppress(KeyError):
            self.server.tokens_once.remove(token)
            by_token = True
        if not by_token and not self._has_cookie():
            self._refuse(403, "Open the address that `coview browse` printed, with its token.")
            return
        # The page itself holds the token as a cookie, so that a link from elsewhere works too.
        cookie = f"{self._cookie_name}={self.server.token}; Path=/; HttpOnly; SameSite=Strict"
        self._send(200, self.server.page, "text/html; charset=utf-8", cookie=cookie)

    def _is_from_here(self) -> bool:
        """Whether the request names this machine as its host; refuses it otherwise."""
        port = self.server.server_address[1]
        if self.headers.get("Host", "") in (f"{HOST}:{port}", f"localhost:{port}"):
            return True
        self._refuse(403, "This server answers to 127.0.0.1 alone.")
        return False

    @property
    def _cookie_name(self) -> str:
        # Cookies of one host are shared by all its ports.
        return f"coview-{self.server.server_address[1]}"

    def _has_cookie(self) -> bool:
        pairs = (part.strip().partition("=") for part in self.headers.get("Cookie", "").split(";"))
        return any(
            name == self._cookie_name
            and hmac.compare_digest(value.encode(), self.server.token.encode())
            for name, _, value in pairs
        )

    def _refuse(self, code: int, sentence: str) -> None:
        # What a refused request still sends is not read.
        self.close_connection = True
        self._send(code, sentence.encode("utf-8", "replace"), "text/plain; charset=utf-8")

    def _send(
        self, code: int, body: bytes, kind: str, *, cache: bool = False, cookie: str = ""
    ) -> None:
        self.send_response(code)
        headers = {
            "Content-Type": kind, "Content-Length": str(len(body)),
            "Cache-Control": "private, max-age=86400" if cache else "no-store",
            "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY",
        }  # fmt: skip
        if cookie:
            headers["Set-Cookie"] = cookie
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed for a request."""


GET: Mapping[str, Callable[[Requests, Query], Any]] = {
    "/arrays": lambda r, q: r.arrays(),
    "/thumb": lambda r, q: r.thumb(single(q, "row"), single(q, "size")),
    "/sheet": lambda r, q: r.sheet(single(q, "rows"), single(q, "size")),
    "/images": lambda r, q: r.images(single(q, "rows")),
    "/find": lambda r, q: r.find(single(q, "text")),
    "/neighbors": lambda r, q: r.neighbors(single(q, "rows"), single(q, "k")),
    "/annotations": lambda r, q: r.annotated(),
}
POST: Mapping[str, Callable[[bytes, Requests, Query], Any]] = {
    "/similar": lambda body, r, q: r.similar(body, single(q, "name"), single(q, "k")),
    "/annotate": lambda body, r, q: r.annotate(_json(body)),
}


def _json(body: bytes) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(body)
    raise InvalidValue("The request is no JSON.")
