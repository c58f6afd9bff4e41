"""Heartbeats between processes, so that none waits forever for one that has died.

With gloo a broken connection shows that a process was killed; with NCCL, or while a process
computes, nothing does. So every process increments its own counter in the shared store, watches
the counter of the next rank, and reads whether another process has reported a failure. The store
lives in a process too, which may be stopped: a second thread watches that the store answers.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from coview.core.machine import exit_now

INTERVAL, TIMEOUT = 2.0, 20.0  # seconds
FAILURE = "coview/failure"
ADVICE = (
    "The run cannot continue without it. The last checkpoint is intact: start the same command "
    "again, or use coview resume."
)


class Heartbeat:
    """The heartbeat of process ``rank`` of ``world``, in its own threads.

    ``store`` is torch's key-value store, through a connection that nothing else uses. All
    processes start theirs at about the same time: one that is not there yet is silent. Calls
    ``exit_now`` with a sentence ("" if another process prints it) when the next rank's counter has
    not changed for ``timeout`` seconds, the store has not answered for as long, or another process
    has reported a failure. The counter is incremented every ``interval`` seconds. Silence is
    counted in intervals and not by a clock, so that a process that was stopped itself, and goes on,
    does not take its own sleep for the silence of others.
    """

    def __init__(
        self, store: Any, rank: int, world: int, *, interval: float = INTERVAL,
        timeout: float = TIMEOUT, exit_now: Callable[[str], None] = exit_now,
    ) -> None:  # fmt: skip
        self.store, self.rank, self.neighbor = store, rank, (rank + 1) % world
        self.interval, self.timeout, self.exit_now = interval, timeout, exit_now
        self._stopped = threading.Event()
        self._shutting_down = self._answered = False
        self._threads = [
            threading.Thread(target=target, name="coview-heartbeat", daemon=True)
            for target in (self._watch, self._watch_store)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def shutdown(self) -> None:
        """Keep beating, but stop treating another process's exit as a failure."""
        self._shutting_down = True

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(self.interval)

    def report_failure(self, reason: str) -> None:
        """Tell all other processes that the run has failed; the first ``reason`` is kept."""
        with contextlib.suppress(RuntimeError):  # the store has gone, and its process too
            self.store.compare_set(FAILURE, "", reason)

    def _watch(self) -> None:
        last_count, silence = -1, 0.0
        while not self._stopped.wait(self.interval):
            reason, count = self._beat()
            self._answered = True
            silence = silence + self.interval if count == last_count else 0.0
            last_count = count
            if not reason and silence > self.timeout:
                reason = f"Process {self.neighbor} has not responded for {self.timeout:.0f} s."
                self.report_failure(reason)
            if reason and not self._shutting_down:
                sentence = self._sentence(reason)
                self._stopped.set()
                self.exit_now(sentence)

    def _watch_store(self) -> None:
        """A call of the store returns only when its process answers; this thread calls none."""
        silence = 0.0
        while not self._stopped.wait(self.interval):
            silence = 0.0 if self._answered else silence + self.interval
            self._answered = False
            if silence > self.timeout and not self._shutting_down:
                self._stopped.set()
                self.exit_now(
                    "The process that holds the shared store has not responded for "
                    f"{self.timeout:.0f} s. {ADVICE}"
                )

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
        return f"{reason} {ADVICE}"
