"""Signals that ask to stop: the first saves and stops training, the second exits at once.

Ctrl-C (SIGINT), SIGTERM, SIGHUP (the terminal has gone) and SIGUSR1, SIGUSR2 (schedulers send them
before the time is over). After a second signal the exit code is 128 plus its number, as in a shell.
The last checkpoint is then intact; the steps after it are lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any

# Windows has the first two.
NAMES = {
    number: "Ctrl-C" if number == signal.SIGINT else number.name
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if (number := getattr(signal.Signals, name, None)) is not None
}


def handle_signals(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Let ``handler`` take the signals of ``NAMES``; returns what took them before, by number.

    A signal that is ignored stays ignored: nohup ignores SIGHUP. But not SIGINT, which a shell's
    script ignores in every background job: it saves as everywhere. Raises ValueError outside of
    the main thread.
    """
    return {
        number: signal.signal(number, handler)
        for number in NAMES
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
    }


def restore_signals(before: Mapping[int, Any]) -> None:
    """Give the signals back to what :func:`handle_signals` returned."""
    for number, handler in before.items():
        signal.signal(number, handler)


class StopSignals:
    """A context in which the first signal of ``NAMES`` only sets :attr:`received`.

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
        with contextlib.suppress(ValueError):  # not the main thread
            self._before = handle_signals(self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        restore_signals(self._before)

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
        with contextlib.suppress(OSError):  # the terminal may have gone
            os.write(2, text.encode())
