"""Every command and snippet of README, docs/ and the notebooks runs, at sizes of a test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from page_blocks import EXECUTED, NOT_TESTED, ROOT, Block, blocks_of, cells_of, pages
from page_workspace import lay_out

HERE = Path(__file__).parent
BLOCKS = {page.relative_to(ROOT).as_posix(): blocks_of(page) for page in pages()}
BLOCKS |= {f"docs/notebooks/{book.name}": cells_of(book)
           for book in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))}  # fmt: skip
TESTED = {
    name: [block for block in blocks if not block.reason]
    for name, blocks in BLOCKS.items()
    if any(not block.reason for block in blocks)
}

TIMEOUT = 600
"""Seconds for a page, on a machine that is busy; a quiet one needs a few."""

PREPARE = """
coview pretrain photos/
coview finetune runs/photos labeled/ --labels 10% --no-baselines
for run in a b c imagenet; do cp -r runs/photos runs/$run; done
for run in runs/*; do touch $run/prepared; done
"""
"""The runs that every page may use. A page that makes one of them itself replaces it, once: two
commands of a page that write the same run are a mistake of the page."""


@pytest.fixture(scope="session")
def session(tmp_path_factory):
    """(environment, folder): a server of commands, and a folder with pictures and two runs."""
    folder = tmp_path_factory.mktemp("pages")
    shims = folder / "bin"
    shims.mkdir()
    for name in ("coview", "python", "pip", "make", "torchrun", "page"):
        shim = shims / name
        shim.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -S "{HERE}/page_shim.py" {name} "$@"\n'
        )
        shim.chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}",
        "PAGE_ROOT": str(ROOT), "PAGE_SOCKET": str(folder / "socket"),
        "COVIEW_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join(path for path in (str(ROOT / "src"), os.environ.get("PYTHONPATH")) if path),
    }  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, str(HERE / "page_server.py"), environment["PAGE_SOCKET"]], env=environment
    )
    try:
        await_server(environment["PAGE_SOCKET"], server)
        ready = folder / "ready"
        lay_out(ready)
        subprocess.run(["bash", "-ec", PREPARE], cwd=ready, env=environment, check=True)
        yield environment, ready
    finally:
        server.terminate()
        server.wait(10)


READY = json.dumps({"kind": "nothing", "words": [], "folder": "/", "environment": {}}).encode()


def await_server(path, server, seconds=300.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, "the server of the pages did not start"
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(path)
            except OSError:
                time.sleep(0.05)
            else:
                socket.send_fds(client, [READY], [0, 1, 2])
                return
    raise AssertionError("the server of the pages does not listen")


def run_blocks(blocks: list[Block], session, folder: Path):
    """Run the blocks in a copy of the prepared folder; the output is that of a failed test."""
    environment, ready = session
    place = folder / "place"
    shutil.copytree(ready, place)
    todo = folder / "blocks.json"
    todo.write_text(json.dumps([[f"{b.page}:{b.line}", b.language, b.text] for b in blocks]))
    return subprocess.run(
        ["page", str(todo)], cwd=place, env=environment, check=False, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT,
    )  # fmt: skip


@pytest.mark.parametrize("name", TESTED)
def test_blocks_run(name, session, tmp_path):
    done = run_blocks(TESTED[name], session, tmp_path)
    assert done.returncode == 0, f"{name}\n{done.stdout[-6000:]}"


def test_blocks_have_a_language_and_a_reason():
    for blocks in BLOCKS.values():
        for block in blocks:
            place = f"{block.page}, line {block.line}"
            assert block.language, f"{place}: the fence has no language (text, where it is output)"
            if block.title.startswith(NOT_TESTED.strip()) and block.language in EXECUTED:
                assert len(block.reason) > 5, f"{place}: says no reason"


def test_a_block_that_fails_is_noticed(session, tmp_path):
    for number, (language, text) in enumerate(
        [("sh", "coview embed runs/none photos/"), ("sh", "false | true"),
         ("sh", "pip install 'coview[unheard]'"), ("python", "1 / 0")]
    ):  # fmt: skip
        block = Block("page", number, language, "", text)
        folder = tmp_path / str(number)
        folder.mkdir()
        assert run_blocks([block], session, folder).returncode != 0, text
