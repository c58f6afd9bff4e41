"""The lock of a run folder: one process at a time writes a run.

The operating system locks the file ``lock.json`` (flock) and frees it when the process ends, by
whatever end: the lock of a process that was killed is free at once, also where its number is used
again. The file names its holder. On a file system without flock that decides. For another machine,
whose locks a network file system may not show, the date of the file does. The holder renews it:
after ``STALE`` seconds without a renewal the holder has ended. Names of hosts and numbers of
processes alone decide nothing, because containers use them again.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from coview.core.errors import RunError
from coview.core.files import exists, lock_file, storage_errors
from coview.core.machine import boot_id, exit_now, process_namespace, process_started
from coview.core.run_folder import RunFolder
from coview.core.temporary import temporary_beside
from coview.core.text import duration

RENEWAL, STALE = 15.0, 180.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that writes a run. ``started`` tells two processes with one number apart."""

    process: int
    host: str
    machine: str
    namespace: str
    started: str
    since: str

    @classmethod
    def this_process(cls) -> Holder:
        return cls(
            process=os.getpid(), host=platform.node(), machine=boot_id(),
            namespace=process_namespace(), started=process_started(os.getpid()),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip

    @classmethod
    def read(cls, content: bytes) -> Holder | None:
        """The holder that a lock file names; None for an empty or damaged one."""
        with contextlib.suppress(ValueError, TypeError):
            values = json.loads(content)
            return cls(**{field.name: values[field.name] for field in fields(cls)
                          if field.name in values})  # fmt: skip
        return None

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of the run in ``folder``, which is made where it is absent.

    Folders that were made and are still empty at the end are removed. Raises RunError where another
    process holds the lock, StorageError where the folder may not be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp(), "run")
    >>> with run_lock(folder), run_lock(folder):
    ...     pass
    Traceback (most recent call last):
    coview.core.errors.RunError: ... is being written by process ...
    """
    path = RunFolder(folder).lock_path
    new = [place for place in (folder, *folder.parents) if not exists(place)]
    with storage_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    ended = threading.Event()
    renewal = threading.Thread(
        target=_renew, args=(path, descriptor, ended), name="coview-lock", daemon=True
    )
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
        _release(path, descriptor)
        with contextlib.suppress(OSError):
            for place in new:
                place.rmdir()


def is_being_written(folder: Path) -> bool:
    """Whether a process writes the run in ``folder``, this one included; takes no lock.

    By the process that the lock file names, or where nobody here can see it by the file's date.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp(), "run")
    >>> with run_lock(folder):
    ...     is_being_written(folder)
    True
    >>> is_being_written(folder)
    False
    """
    path = RunFolder(folder).lock_path
    try:
        holder, age = Holder.read(path.read_bytes()), time.time() - path.stat().st_mtime
    except OSError:
        return False
    if holder is None:
        return False
    here = holder.machine == boot_id() and holder.namespace == process_namespace()
    if here and holder.started:
        return process_started(holder.process) == holder.started
    return age < STALE


def _acquire(path: Path) -> int:
    """A descriptor of the lock file, which names this process."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = lock_file(descriptor)
            holder = Holder.read(os.read(descriptor, 4096))
            if locked is False:
                raise RunError(
                    f"{path.parent} is being written by {holder or 'another process'}. Wait until "
                    "it ends, or stop it."
                )
            if holder is not None:
                _require_gone(holder, path, locked=bool(locked))
            if _is_same(path, descriptor):  # else its holder has deleted it in between
                content = json.dumps(asdict(Holder.this_process())).encode() + b"\n"
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, content)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _require_gone(holder: Holder, path: Path, *, locked: bool) -> None:
    """Raise RunError unless ``holder`` has ended; ``locked``: this process holds the flock."""
    if holder.machine == boot_id():
        if locked:
            return
        if holder.started and holder.namespace == process_namespace():
            if process_started(holder.process) != holder.started:
                return
            raise RunError(f"{path.parent} is being written by {holder}. Wait or stop it.")
    age = _age(path)
    if age < STALE:
        raise RunError(
            f"{path.parent} is being written by {holder}, which renewed {path.name} "
            f"{duration(age)} ago. If that process has ended, delete {path}, or try again in "
            f"{duration(STALE - age)}."
        )


def _age(path: Path) -> float:
    """Seconds since the file was renewed, by the clock of the file system and not of this host."""
    probe = temporary_beside(path)
    try:
        probe.touch()
        return max(0.0, probe.stat().st_mtime - path.stat().st_mtime)
    finally:
        probe.unlink(missing_ok=True)


def _renew(path: Path, descriptor: int, ended: threading.Event) -> None:
    while not ended.wait(RENEWAL):
        with contextlib.suppress(OSError):
            if not _is_same(path, descriptor, absent=True):
                # This process slept for so long that another one took the lock.
                exit_now(f"Another process has taken over {path.parent}; this one has ended.")
            os.utime(descriptor)


def _is_same(path: Path, descriptor: int, *, absent: bool = False) -> bool:
    """Whether ``path`` is the open file; ``absent`` where there is no such file (any more)."""
    try:
        found, opened = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return absent
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


def _release(path: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):
        if _is_same(path, descriptor):
            os.ftruncate(descriptor, 0)  # Windows does not delete an open file: it is empty then
            path.unlink()
    os.close(descriptor)
