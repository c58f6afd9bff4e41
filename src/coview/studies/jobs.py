"""Cells side by side, each in a process of its own: two single threads do more than two threads."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from coview.core.machine import cores, share_machine
from coview.core.progress import output, say
from coview.core.run_folder import ImportedFile
from coview.core.user_code import agree_to, files_of, import_again, named_files
from coview.studies.cell import Cell
from coview.studies.failures import Failure, Failures
from coview.studies.live import StudyLines
from coview.training.signals import handle_signals, restore_signals

POLL_SECONDS = 0.5


def train_side_by_side(
    cells: Sequence[Cell], root: Path, machine: Mapping[str, Any], jobs: int,
    after: Callable[[], Mapping[str, Any]],
) -> bool:  # fmt: skip
    """Train the cells in ``jobs`` processes, each after those that it needs; whether all ended.

    ``after`` is called in this process when a cell has ended, and returns the content of
    study.json. A signal to stop goes to all of them: they save, and the same call goes on. Where a
    cell fails, those that do not need it go on; what would make them fail too, as a full disk, ends
    all of them when they have saved. Raises RunError with what went wrong in each.
    """
    waiting, running = list(cells), dict[Future[Failure | None], Cell]()
    failures, stopped = Failures(root), False
    with (
        _pool(jobs, [*named_files(), *files_of(tuple(cells))]) as (pool, processes),
        _Stop(lambda: list(processes)) as stop, StudyLines(root, len(cells)) as shown,
    ):  # fmt: skip
        while running or waiting:
            ends = stop.received or stopped
            full = len(running) == jobs
            free = [] if ends or full else ready(waiting, running.values(), root)
            for cell in free[: jobs - len(running)]:
                waiting.remove(cell)
                say(f"Begins: {cell.name} in {cell.folder(root)}")
                running[pool.submit(in_process, cell, root, dict(machine))] = cell
            if not running:
                break
            done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                cell = running.pop(future)
                failure = _result(future, processes, stopping=bool(stop.received) or stopped)
                if failure:
                    sentence = failures.add(cell, failure)
                    then = "The others save and end." if failure.ends_all else "The others go on."
                    say(f"Failed: {sentence} {then}")
                    if failure.ends_all:
                        stopped = True
                        stop.send(signal.SIGTERM)
                elif cell.is_ended(root):
                    shown.ended(cell, after())
                else:
                    stopped = True
            shown.progress(running.values())
    failures.raise_any()
    return not waiting and not stopped and not stop.received


def ready(waiting: Sequence[Cell], running: Collection[Cell], root: Path) -> list[Cell]:
    """The waiting cells whose needs have ended, and which no process has."""
    busy = {cell.key for cell in running}
    return [
        cell
        for cell in waiting
        if cell.key not in busy and all(need.is_ended(root) for need in cell.needs)
    ]


def _result(
    future: Future[Failure | None], processes: Mapping[int, BaseProcess], *, stopping: bool
) -> Failure | None:
    """What went wrong in the process of a cell; ``stopping``: a signal went to all of them, which
    ends those that have not begun yet. Without a process that has ended the others go on no more.
    """
    try:
        return future.result()
    except BrokenProcessPool:
        if stopping:
            return None
        codes = [process.exitcode for process in processes.values()]
        return Failure(about_end(codes), ends_all=True)


def about_end(codes: Sequence[int | None]) -> str:
    """Why processes that have ended without a word may have, from the exit codes of all.

    The others were ended by the pool, with SIGTERM.

    >>> about_end([None, 1, -15])
    'a process of the study has ended with exit code 1. The same command goes on.'
    """
    first = next((code for code in codes if code not in (None, 0, -signal.SIGTERM)), None)
    if first == -signal.SIGKILL:
        how = "was killed, as the system does where memory is short; try fewer `jobs`"
    elif first is not None and first < 0:
        how = f"was ended by signal {-first}"
    else:
        how = "has ended" + ("" if first is None else f" with exit code {first}")
    return f"a process of the study {how}. The same command goes on."


def in_process(cell: Cell, root: Path, machine: dict[str, Any]) -> Failure | None:
    """In a process of the pool: the run, begun or gone on with. Returns what went wrong."""
    _BUSY.set()
    try:
        with output(muted=True, inner=True):
            cell.train(root, machine)
    except Exception as error:
        return Failure.of(error)
    except KeyboardInterrupt:  # while it was judged: the run has ended and is judged anew
        return None
    finally:
        _BUSY.clear()
    return None


_BUSY = threading.Event()
"""Set while this process has a cell."""


def _interrupt(number: int, frame: Any) -> None:
    """A signal ends what is not a training, which takes its signals itself; idle, nothing."""
    if _BUSY.is_set():
        raise KeyboardInterrupt


def threads_of(jobs: int) -> int:
    """The threads of each of the processes: its share of the cores."""
    return max(1, cores() // jobs)


@contextmanager
def _pool(
    jobs: int, files: Sequence[ImportedFile]
) -> Iterator[tuple[ProcessPoolExecutor, Mapping[int, BaseProcess]]]:
    """The pool, and its processes by their numbers, as far as they have begun. ``files``: those of
    the user that register what cells name, or define classes of theirs."""
    threads = threads_of(jobs)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # the children read it when they import torch
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_begin,
        initargs=(jobs, os.getpid(), list({file["hash"]: file for file in files}.values())),
    )  # fmt: skip
    try:
        yield pool, pool._processes
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _begin(jobs: int, parent: int, files: Sequence[ImportedFile]) -> None:
    """In a new process: its share of the cores and of the memory, out of the terminal's group, gone
    with its parent.

    ``files`` of the user are imported, before a cell with their classes is read.

    The terminal's Ctrl-C reaches the parent alone, which hands it on once: a second signal would
    end a run while it saves.
    """
    import torch

    torch.set_num_threads(threads_of(jobs))
    share_machine(jobs)
    for file in files:
        agree_to(file["hash"])
    import_again(files)
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(os, "setsid"):
        os.setsid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)  # a training saves
        while _BUSY.is_set():
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Stop:
    """Hands the first signal to stop on to the processes of ``workers``; an error stops them."""

    def __init__(self, workers: Callable[[], list[int]]) -> None:
        self.workers, self.received = workers, 0

    def __enter__(self) -> _Stop:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = handle_signals(lambda number, frame: self._receive(number))
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:
            self.send(signal.SIGTERM)  # the pool waits for its processes, which save
        restore_signals(self._before)

    def _receive(self, number: int) -> None:
        if not self.received:
            say("Stopping: the runs save. The same command goes on with the study.")
        self.received = number
        self.send(signal.SIGTERM)

    def send(self, number: int) -> None:
        for process in self.workers():
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue
