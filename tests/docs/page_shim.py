"""What stands in the PATH of a page: ``coview``, ``python``, ``pip``, ``make``, ``torchrun``.

``coview`` and ``python FILE`` run for real, in a fork of ``page_server.py``. ``pip`` and ``make``
are not run: what is checked is that the extra and the target exist. ``torchrun`` starts the same
command in one process.
"""

import json
import os
import re
import socket
import sys

ROOT = os.environ["PAGE_ROOT"]


def ask(kind, words):
    request = {
        "kind": kind, "words": words, "folder": os.getcwd(), "environment": dict(os.environ),
    }  # fmt: skip
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.environ["PAGE_SOCKET"])
        socket.send_fds(client, [json.dumps(request).encode()], [0, 1, 2])
        return int(client.recv(16) or b"1")


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def pip(words):
    """The extras of ``coview[a,b]`` are in pyproject.toml."""
    table = read("pyproject.toml").split("[project.optional-dependencies]")[1].split("\n[")[0]
    known = re.findall(r"^(\w+) = ", table, re.MULTILINE)
    for word in words:
        for extra in (re.search(r"\[(.*)\]", word) or [None, ""])[1].split(","):
            if extra and extra not in known:
                sys.exit(f"pip: pyproject.toml has no extra {extra!r}")
    return 0


def make(words):
    for target in (word for word in words if "=" not in word):
        if not re.search(rf"^{target}:", read("Makefile"), re.MULTILINE):
            sys.exit(f"make: the Makefile has no target {target!r}")
    return 0


def torchrun(words):
    return ask("command", words[words.index("coview") + 1 :])


def python(words):
    if words and words[0].endswith(".py"):
        return ask("script", words)
    if words[:2] == ["-m", "coview"]:
        return ask("command", words[2:])
    os.execv(sys.executable, [sys.executable, *words])


VERBS = {
    "coview": lambda words: ask("command", words), "python": python, "pip": pip, "make": make,
    "torchrun": torchrun, "page": lambda words: ask("page", words),
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(VERBS[sys.argv[1]](sys.argv[2:]))
