"""A process that has imported Coview once, and from which every command of a page is forked.

``python page_server.py SOCKET`` listens. A client (see ``page_shim.py``) sends what is to run, its
folder, its environment and its three streams; the fork runs it there and answers with its exit
code. A command then takes its own time and not that of importing torch.

Whatever a page trains is made small by ``page_sizes.py``, in the one place that all options pass.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import runpy
import shutil
import signal
import socket
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONGEST = 1 << 20


def serve(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        parent = os.getppid()
        server.settimeout(1.0)
        while os.getppid() == parent:  # the tests are there
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(None)
                message, streams, _, _ = socket.recv_fds(connection, LONGEST, 3)
                if os.fork() == 0:
                    server.close()
                    _answer(connection, json.loads(message), streams)
                for stream in streams:
                    os.close(stream)


def _answer(connection: socket.socket, request: dict[str, Any], streams: list[int]) -> None:
    """In the fork: run, send the exit code, and end."""
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, m) for n, m in enumerate("rww"))
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = KINDS[request["kind"]](request["words"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        with contextlib.suppress(OSError):
            connection.send(str(code).encode())
        os._exit(code)


def command(words: list[str]) -> int:
    """``coview WORDS``."""
    from coview.cli import main

    return main(words)


def script(words: list[str]) -> int:
    """``python FILE WORDS``."""
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).resolve().parent))
    runpy.run_path(words[0], run_name="__main__")
    return 0


def page(words: list[str]) -> int:
    """All blocks of a page, in order: WORDS is a JSON file of [name, language, text].

    Blocks of Python share their names, as in a session; one whose first line is a comment with the
    name of a file is written to that file. The first block that fails ends the page.
    """
    import subprocess

    sys.path.insert(0, "")
    module = sys.modules["page"] = types.ModuleType("page")
    for name, language, text in json.loads(Path(words[0]).read_text()):
        print(f"--- {name}", flush=True)
        if file := re.match(r"# ([\w/]+\.py)\b", text):
            Path(file[1]).write_text(text)
        elif language == "sh":
            done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", text], check=False)
            if done.returncode:
                print(f"--- {name}: exit code {done.returncode}", file=sys.stderr)
                return 1
        else:
            try:
                exec(compile(text, name, "exec"), vars(module))
            except BaseException:
                traceback.print_exc()
                print(f"--- {name}: failed", file=sys.stderr)
                return 1
    return 0


def nothing(words: list[str]) -> int:
    """The answer says that the server is there."""
    return 0


KINDS: dict[str, Callable[[list[str]], int]] = {
    "command": command, "script": script, "page": page, "nothing": nothing,
}  # fmt: skip


def make_small() -> None:
    """Every function of a verb gets options that ``page_sizes`` has made small.

    A run replaces one of the same name that the tests have prepared, and no other.
    """
    from page_sizes import small

    from coview.core import options

    takes = options.takes

    def takes_small(kind: type) -> Callable[..., Any]:
        def decorate(function: Callable[..., Any]) -> Any:
            @functools.wraps(function)
            def call(value: Any) -> Any:
                return function(small(value))

            return takes(kind)(call)

        return decorate

    options.takes = takes_small

    from coview.runs import start

    new_folder = start.new_folder

    def emptied(path: Any) -> Path:
        if (Path(path) / "prepared").is_file():
            for entry in Path(path).iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name != "lock.json":
                    entry.unlink()
        return new_folder(path)

    start.new_folder = emptied


if __name__ == "__main__":
    make_small()
    import torch

    import coview.cli.main

    for verb in coview.__all__:  # loads its module, which the forked pages then have
        getattr(coview, verb)

    torch.set_num_threads(1)
    serve(sys.argv[1])
