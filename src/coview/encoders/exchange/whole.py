"""An export that is replaced as a whole: a process that is killed leaves the old one or the new."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coview.core.files import entries, exists, replacing, storage_errors, sync_folder
from coview.core.places import Kind, place_of

PENDING, UNFINISHED = ".new", ".unfinished"
"""In the folder of an export, only where a process was killed: the export that replaces it, whole,
and what counts for nothing."""


@contextmanager
def replacing_export(folder: Path) -> Iterator[Path]:
    """A new folder for an export that the body writes; its files then replace those of ``folder``.

    Where the body fails, ``folder`` is as it was. Raises StorageError.
    """
    finish_export(folder)  # what a killed process left is the export until the next is whole
    temporary = folder / UNFINISHED
    with storage_errors(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            yield temporary
            temporary.rename(folder / PENDING)
            sync_folder(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    finish_export(folder)


def finish_export(folder: Path) -> None:
    """Put the files of a pending export in their places, if there is one. Raises StorageError."""
    pending = folder / PENDING
    if not exists(pending):
        return
    for name in entries(pending):
        with replacing(folder / name) as file:
            shutil.copyfile(pending / name, file)
    with storage_errors(folder):
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        pending.rename(folder / UNFINISHED)
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def whole_export(folder: Path) -> Path:
    """Where the export of ``folder`` is whole: the pending one where its files are not all in
    place."""
    pending = folder / PENDING
    return pending if place_of(pending).kind is Kind.EXPORT else folder
