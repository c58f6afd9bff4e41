"""Ctrl-C and SIGTERM: the first signal saves and stops training, the second exits at once.

After a second signal the exit code is 130 for Ctrl-C (SIGINT) and 143 for SIGTERM, as in a shell.
The last checkpoint is then intact; the steps after it are lost.
"""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class StopSignals:
    """A context in which the first SIGINT or SIGTERM only sets :attr:`received`.

    It must be entered from the main thread, which handles signals in Python; in other threads it
    has no effect. An instance is the ``stop`` argument of :func:`~coview.training.train`.

    >>> with StopSignals() as stop:
    ...     stop()
    ''
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        try:
            for number in NAMES:
                self._before[number] = signal.signal(number, self._handle)
        except ValueError:  # not the main thread
            self._before = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> str:
        """The reason to stop, in words; "" without a signal."""
        return "" if self.received is None else f"stopped by {NAMES[signal.Signals(self.received)]}"

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            self._write("\nStopping after this step and saving. A second signal exits at once.\n")
            return
        self._write("\nExited at once; the last checkpoint is intact.\n")
        os._exit(128 + number)

    @staticmethod
    def _write(text: str) -> None:
        # Not print: the handler may interrupt a print, whose buffer is not reentrant.
        os.write(2, text.encode())
