"""Names of files that a process is writing, and which are left of processes that have ended."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
import zlib
from pathlib import Path

from coview.core.machine import boot_id, process_namespace, process_started

DAY = 86_400.0
"""A temporary file that has not grown for so many seconds is left, whoever has begun it."""
# Not the last digits of a longer number before the mark: a machine may have decimal digits alone.
_MARK = re.compile(r"(?<![0-9a-f])([0-9a-f]{8})-(\d+)-(\d*)-[0-9a-f]{8}")


def mark() -> str:
    """A part of a file's name that says which process writes it, and that no other file has.

    Two containers on one disk often have processes of the same number.
    """
    process = os.getpid()
    return f"{_machine()}-{process}-{process_started(process)}-{secrets.token_hex(4)}"


def is_written(name: str) -> bool | None:
    """Whether the process still runs that is marked in ``name``; None where that is not known.

    It is not known of other machines and containers, nor of a name without a mark.

    >>> is_written(f"x-{mark()}.parquet") is not False, is_written("x.parquet") is None
    (True, True)
    """
    found = _MARK.search(name)
    if found is None or found[1] != _machine() or not found[3]:
        return None
    return process_started(int(found[2])) == found[3]


def temporary_beside(path: Path) -> Path:
    """A new name in the folder of ``path`` for what will replace it."""
    return path.with_name(f".{path.name}.{mark()}.tmp")


def is_temporary(name: str, path: Path) -> bool:
    """Whether ``name`` is that of a temporary file of ``path``.

    >>> is_temporary(temporary_beside(Path("run.json")).name, Path("run.json"))
    True
    """
    # What replaces a temporary file has two marks.
    return bool(re.fullmatch(rf"\.{{1,2}}{re.escape(path.name)}(\.{_MARK.pattern}\.tmp)+", name))


def sweep(path: Path) -> None:
    """Delete the temporary files of ``path`` that are left: their process has ended, or nothing was
    written to them for a day."""
    with contextlib.suppress(OSError):
        for each in path.parent.iterdir():
            if is_temporary(each.name, path) and (is_written(each.name) is False or _is_old(each)):
                with contextlib.suppress(OSError):
                    each.unlink()


def _is_old(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > DAY
    return False


def _machine() -> str:
    return f"{zlib.crc32(f'{boot_id()} {process_namespace()}'.encode()):08x}"
