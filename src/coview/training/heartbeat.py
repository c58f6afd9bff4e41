"""Processes that watch each other, so that none waits for ever for one that has died.

A process that is killed says nothing to the others. Where they exchange through sockets (gloo) the
broken connection tells them; on GPUs (NCCL), or while they compute, nothing does. So each counts
up a number of its own in the store that all processes met at, watches its neighbor's, and
reads whether anybody has written down that the run has ended.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

EVERY = 2.0
TIMEOUT = 20.0
ENDED = "coview/ended"


def leave(reason: str) -> None:
    """Say why and end this process at once, whatever its other threads are waiting for."""
    # Not print, not sys.exit: the main thread may be inside a library that never returns.
    if reason:
        os.write(2, f"{reason}\n".encode())
    os._exit(1)


class Heartbeat:
    """The watch of process ``rank`` of ``world``, in a thread of its own.

    ``store`` is torch's key-value store, a connection of which belongs to this alone. After
    ``timeout`` seconds without a sign of the neighbor, or as soon as some process has written
    that the run has ended, ``leave`` is called with a sentence (or "" where another has said it).
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        world: int,
        *,
        every: float = EVERY,
        timeout: float = TIMEOUT,
        leave: Callable[[str], None] = leave,
    ) -> None:
        self.store, self.rank, self.neighbor = store, rank, (rank + 1) % world
        self.every, self.timeout, self.leave = every, timeout, leave
        self._over = threading.Event()
        self._parting = False
        self._thread = threading.Thread(target=self._watch, name="coview-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to be heard of, and to watch."""
        self._thread.start()

    def part(self) -> None:
        """Go on being heard of, but take the end of others for what it is: the run is over."""
        self._parting = True

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join(self.every)

    def tell(self, reason: str) -> None:
        """Write down for all others that the run has ended; the first reason stays."""
        with contextlib.suppress(RuntimeError):  # no store, nobody to tell
            self.store.compare_set(ENDED, "", reason)

    def _watch(self) -> None:
        seen, heard = -1, time.monotonic()
        while not self._over.wait(self.every):
            reason, count = self._look()
            now = time.monotonic()
            if count != seen:
                seen, heard = count, now
            elif not reason and now - heard > self.timeout:
                reason = (
                    f"Process {self.neighbor} has given no sign for {self.timeout:.0f} s."
                )
                self.tell(reason)
            if reason and not self._parting:
                self.leave(self._sentence(reason))
                return

    def _look(self) -> tuple[str, int]:
        """Why the run has ended, or ""; and the neighbor's count."""
        try:
            self.store.add(f"coview/beat/{self.rank}", 1)
            count = self.store.add(f"coview/beat/{self.neighbor}", 0)
            ended = self.store.check([ENDED])
            return self.store.get(ENDED).decode() if ended else "", count
        except RuntimeError:
            return "The process that all others met at is gone.", -1

    def _sentence(self, reason: str) -> str:
        """What to say: one process of all says it."""
        with contextlib.suppress(RuntimeError):
            if self.store.add("coview/said", 1) > 1:
                return ""
        return (
            f"{reason} The run cannot go on without it; what was saved before is whole: "
            "start the same command again, or coview resume."
        )
