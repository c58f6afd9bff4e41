"""Atomic files: write a temporary file, fsync it, rename it, fsync the folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coview.core.errors import DamagedFile, StorageError, UnreadableFile
from coview.core.paths import file_mode, open_regular
from coview.core.temporary import temporary_beside

SEEN = 90.0  # seconds
fcntl: Any = None if os.name == "nt" else importlib.import_module("fcntl")


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``; readers see the old or the new content."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        stream.write(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside ``path`` that the body writes; it replaces ``path`` once it is on the disk.

    Where the body fails nothing is left, and ``path`` is as it was.
    """
    temporary = temporary_beside(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, content: str) -> None:
    """As :func:`write_bytes`, for UTF-8 text. Bytes of a file's name that are no text are spelled
    out."""
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """As :func:`write_text`, for an indented JSON value. Raises ValueError for NaN or infinity."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in ``path``. Raises DamagedFile where it is not JSON."""
    return parse_json(path.read_bytes(), path)


def parse_json(content: bytes, path: Path) -> Any:
    """The JSON value that ``content`` of ``path`` is. Raises DamagedFile."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is not readable JSON ({error}).") from error


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line, or nothing where the disk is full.

    :func:`read_lines` skips a line that a crash truncated.
    """
    line = (json.dumps(value, allow_nan=False) + "\n").encode()
    with storage_errors(path), path.open("a+b", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        if end > 0:
            # A crash may have truncated the last line: start a new one.
            stream.seek(end - 1)
            line = line if stream.read(1) == b"\n" else b"\n" + line
        try:
            if stream.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with contextlib.suppress(OSError):
                stream.truncate(end)
            raise


def read_lines(path: Path) -> list[Any]:
    """All complete JSON lines of ``path``; [] for an absent file. Damaged lines are skipped.

    Raises UnreadableFile where the file is there and cannot be read.
    """
    return parse_lines(read_content(path) or b"")


def parse_lines(content: bytes) -> list[Any]:
    """The values of the lines that are JSON; one damaged byte costs one line.

    >>> parse_lines(b'{"a": 1}\\n{"a": \\xff}\\n{"a": 3}\\n{"a"')
    [{'a': 1}, {'a': 3}]
    """
    rows = []
    for line in content.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):  # JSON and UTF-8 raise ValueErrors
            rows.append(json.loads(line))
    return rows


def exists(path: Path) -> bool:
    """Whether ``path`` is there. Raises UnreadableFile where one may not look.

    Path.exists would take such a place for an absent one.
    """
    with read_errors(path):
        return file_mode(path) is not None


def wait_for(path: Path) -> None:
    """Wait until this machine sees the file that another has written, for ``SEEN`` seconds at most.

    A network file system may remember for a minute that a file was not there.
    """
    until = time.monotonic() + SEEN
    while not exists(path) and time.monotonic() < until:
        entries(path.parent.parent)  # a listing may refresh what is remembered
        entries(path.parent)
        time.sleep(1.0)


def entries(folder: Path) -> list[str]:
    """The names in ``folder``, sorted; none where it is absent.

    Path.glob takes a folder that may not be read for an empty one; this raises RunError.
    """
    with read_errors(folder):
        try:
            return sorted(path.name for path in folder.iterdir())
        except FileNotFoundError:
            return []


def read_content(path: Path) -> bytes | None:
    """The bytes of ``path``; None where there is no such file. Raises UnreadableFile."""
    with read_errors(path):
        try:
            with open_regular(path) as stream:
                return stream.read()
        except FileNotFoundError:
            return None


@contextlib.contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of a read into an UnreadableFile that names the file and the reason."""
    try:
        yield
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror or error}.") from error


def sync_folder(folder: Path) -> None:
    """Make the directory entries of ``folder`` durable (needed after a rename)."""
    if os.name == "nt":  # Windows has no directory handles; its renames are journaled.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(content: bytes | memoryview) -> str:
    """BLAKE2b-128 of ``content`` as 32 hexadecimal digits.

    >>> digest(b"coview")[:8]
    '4ebc115b'
    """
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def lock_file(descriptor: int) -> bool | None:
    """Whether this process has locked the open file; None where the file system has no such locks.

    The system frees the lock when the process ends, however it ends.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of a write into a StorageError that names the file and the reason."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        remedy = "Free some space or choose another folder" if full else "Choose another folder"
        raise StorageError(
            f"Could not write {path}: {error.strerror or error}. {remedy}; files written before "
            "are intact."
        ) from error
