"""log.txt of a run: every line that was printed, with its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path

_log: ContextVar[LineLog | None] = ContextVar("_log", default=None)


class LineLog:
    """The lines of one command: kept until :meth:`open` names a file, from then on appended to it.

    A file that cannot be written costs its lines and nothing else.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._path: Path | None = None

    def add(self, text: str) -> None:
        self._waiting += [f"{stamp()} {line}".rstrip() + "\n" for line in text.split("\n")]
        if self._path is not None:
            self.open(self._path)

    def open(self, path: Path) -> None:
        self._path = path
        with suppress(OSError), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(self._waiting)
        self._waiting.clear()


@contextmanager
def keep_lines(first: str) -> Iterator[LineLog]:
    """A log of ``first``, of what is printed in the body, and of the error that ends it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "log.txt")
    >>> with keep_lines("coview pretrain photos/") as log:
    ...     log_line("a note"), log.open(path), log_line("Report: report.html")
    (None, None, None)
    >>> [line[20:] for line in path.read_text().splitlines()]
    ['coview pretrain photos/', 'a note', 'Report: report.html']
    """
    log = LineLog()
    log.add(first)
    token = _log.set(log)
    try:
        yield log
    except BaseException as error:
        log.add(str(error) or type(error).__name__)
        raise
    finally:
        _log.reset(token)


def log_line(text: str) -> None:
    """Add a line to the log of the command, if it keeps one."""
    log = _log.get()
    if log is not None:
        log.add(text)


def stamp() -> str:
    """The local time, as in 2026-11-29 16:05:31."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
