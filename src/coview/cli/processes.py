"""``--processes N``: the same command in N processes of this machine, as torchrun would start them.

Every process gets torchrun's environment, so that there is one way to be one of several. Unlike
torchrun this returns the exit code of the run, prints nothing of its own, and says a mistake once.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from coview.core.errors import InvalidValue
from coview.core.machine import cores, world_of_torchrun

PARENT = "COVIEW_PARENT"
"""The environment variable with the number of the process that has started the others."""
PARENT_SECONDS = 1.0


def end_with_parent() -> None:
    """The first of several processes stops all where the process that started them is gone.

    A killed parent can hand no signal on, and its children would train unseen. One of them is
    enough: a second signal could end the first while it saves.
    """
    parent = os.environ.get(PARENT)
    if parent is None or os.environ.get("RANK") != "0" or not hasattr(os, "getppid"):
        return

    def watch() -> None:
        while str(os.getppid()) == parent:
            time.sleep(PARENT_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def starts_processes(count: int) -> bool:
    """Whether this process is to start others, and is not one of them. Raises InvalidValue."""
    if count < 1:
        raise InvalidValue(f"`processes` is {count}; expected 1 or more.")
    world = world_of_torchrun()
    if world not in (1, count):
        raise InvalidValue(f"`processes` is {count}; torchrun has started {world}: leave it out.")
    return count > 1 and world == 1


def require_one_process(verb: str) -> None:
    """Raise InvalidValue where torchrun has started several: each would do all of the work."""
    world = world_of_torchrun()
    if world > 1:
        raise InvalidValue(
            f"{verb} works in one process, and torchrun has started {world}. Start it without "
            "torchrun."
        )


def run_processes(count: int, arguments: Sequence[str], device: str) -> int:
    """Run ``coview arguments`` in ``count`` processes; returns the exit code of the first.

    Signals go to all of them. Each has a GPU of its own where ``device`` means GPUs. Raises
    InvalidValue where there are fewer.
    """
    from coview.training.distribution import LOST, check_devices

    check_devices(count, device)
    port = _free_port()
    started = [_Process(rank, count, port, arguments) for rank in range(count)]
    with _forward([each.process for each in started]):
        codes = [each.wait() for each in started]
    main, *others = started
    said = "".join(main.lines)
    if codes[0] != 0 and (not said or LOST in said):  # then another knows why
        for line in dict.fromkeys(line for each in others for line in each.lines):
            sys.stderr.write(line)
    if codes[0] < 0:
        print(f"Process 0 was ended by signal {-codes[0]}.", file=sys.stderr)
    return codes[0] if codes[0] >= 0 else 1


class _Process:
    """One of the processes, and the lines of its standard error, those of the first shown."""

    def __init__(self, rank: int, count: int, port: int, arguments: Sequence[str]) -> None:
        variables = {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, PARENT: os.getpid(),
        }  # fmt: skip
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // count)))
        self.process = subprocess.Popen(  # noqa: S603 - the user's own command again
            [sys.executable, "-m", "coview", *arguments], env=environment, text=True,
            errors="replace", stderr=subprocess.PIPE, start_new_session=True,
            stdout=None if rank == 0 else subprocess.DEVNULL,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, args=(rank == 0,), daemon=True)
        self._reader.start()

    def _read(self, show: bool) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.lines.append(line)
                if show:
                    sys.stderr.write(line)

    def wait(self) -> int:
        code = self.process.wait()
        self._reader.join()
        return code


@contextmanager
def _forward(processes: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """Hand signals on in the body; the processes save and end by themselves."""
    from coview.training.signals import handle_signals, restore_signals

    def forward(number: int, _: Any) -> None:
        for process in processes:
            process.send_signal(number)

    before = handle_signals(forward)
    try:
        yield
    finally:
        restore_signals(before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
