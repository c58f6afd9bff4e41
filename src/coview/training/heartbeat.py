"""Heartbeats between processes, so that none waits forever for one that has died.

With gloo a broken connection shows that a process was killed; with NCCL, or while a process
computes, nothing does. So every process increments its own counter in the shared store, watches
the counter of the next rank, and reads whether another process has reported a failure.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

INTERVAL, TIMEOUT = 2.0, 20.0  # seconds
FAILURE = "coview/failure"


def exit_now(reason: str) -> None:
    """Write ``reason`` to the standard error and end this process at once."""
    # Not print, not sys.exit: the main thread may wait inside a library forever.
    if reason:
        os.write(2, f"{reason}\n".encode())
    os._exit(1)


class Heartbeat:
    """The heartbeat of process ``rank`` of ``world``, in its own thread.

    ``store`` is torch's key-value store, through a connection that nothing else uses. Calls
    ``exit_now`` with a sentence ("" if another process prints it) when the next rank's counter has
    not changed for ``timeout`` seconds or another process has reported a failure. The counter is
    incremented every ``interval`` seconds.
    """

    def __init__(
        self, store: Any, rank: int, world: int, *, interval: float = INTERVAL,
        timeout: float = TIMEOUT, exit_now: Callable[[str], None] = exit_now,
    ) -> None:  # fmt: skip
        self.store, self.rank, self.neighbor = store, rank, (rank + 1) % world
        self.interval, self.timeout, self.exit_now = interval, timeout, exit_now
        self._stopped = threading.Event()
        self._shutting_down = False
        self._thread = threading.Thread(target=self._watch, name="coview-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def shutdown(self) -> None:
        """Keep beating, but stop treating another process's exit as a failure."""
        self._shutting_down = True

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(self.interval)

    def report_failure(self, reason: str) -> None:
        """Tell all other processes that the run has failed; the first ``reason`` is kept."""
        with contextlib.suppress(RuntimeError):  # the store has gone, and its process too
            self.store.compare_set(FAILURE, "", reason)

    def _watch(self) -> None:
        last_count, last_change = -1, time.monotonic()
        while not self._stopped.wait(self.interval):
            reason, count = self._beat()
            now = time.monotonic()
            if count != last_count:
                last_count, last_change = count, now
            elif not reason and now - last_change > self.timeout:
                reason = f"Process {self.neighbor} has not responded for {self.timeout:.0f} s."
                self.report_failure(reason)
            if reason and not self._shutting_down:
                self.exit_now(self._sentence(reason))
                return

    def _beat(self) -> tuple[str, int]:
        """Increment the own counter; returns the reported failure, or "", and the next counter."""
        try:
            self.store.add(f"coview/beat/{self.rank}", 1)
            count = self.store.add(f"coview/beat/{self.neighbor}", 0)
            failed = self.store.check([FAILURE])
            return self.store.get(FAILURE).decode() if failed else "", count
        except RuntimeError:
            return "The process that holds the shared store has ended.", -1

    def _sentence(self, reason: str) -> str:
        """The sentence to print, "" unless this is the first process to print it."""
        with contextlib.suppress(RuntimeError):
            if self.store.add("coview/printed", 1) > 1:
                return ""
        return (
            f"{reason} The run cannot continue without it. The last checkpoint is intact: start "
            "the same command again, or use coview resume."
        )
