"""Ctrl-C and SIGTERM: the first asks training to save and leave, the second leaves at once.

After a second signal the exit code is the shell's for it, 130 for Ctrl-C (SIGINT) and 143 for
SIGTERM; the last checkpoint from before is whole, and what came after it is lost.
"""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class StopSignals:
    """Between ``with`` and its end, SIGINT and SIGTERM only set :attr:`asked`.

    To be entered from the main thread, where Python delivers signals; in any other thread it
    changes nothing and :attr:`asked` stays None.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        try:
            for number in NAMES:
                self._before[number] = signal.signal(number, self._handle)
        except ValueError:  # not the main thread: Ctrl-C is for whoever has it
            self._before = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> str:
        """Why to stop, in words; "" as long as nobody has asked."""
        return "" if self.asked is None else f"stopped by {NAMES[signal.Signals(self.asked)]}"

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked = number
            self._say("\nStopping after this step; the state is saved. Once more: leave at once.\n")
            return
        self._say("\nLeft at once; the last checkpoint from before is intact.\n")
        os._exit(128 + number)

    @staticmethod
    def _say(text: str) -> None:
        # Not print: a handler may interrupt a print, whose buffer must not be entered twice.
        os.write(2, text.encode())
