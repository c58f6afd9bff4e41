"""What lies in a folder: its images and Parquet files, and what is passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from coview.core.errors import DataError
from coview.core.progress import count_aloud
from coview.core.run_folder import DESCRIPTION
from coview.core.text import plural
from coview.data.kinds import (
    CACHE_TAG,
    SERVICE_FILES,
    describe_others,
    is_service_folder,
    other_kind,
    readable_suffixes,
)
from coview.data.listing import utf8_name

TABLES, SHARD_SUFFIX = (".parquet", ".arrow"), ".tar"


@dataclass(slots=True)
class FolderScan:
    """The files of a folder and what it holds besides, by relative path.

    images: with what the system says of the file, None where it says nothing. parquet: also Arrow
    files of Hugging Face. shards: tar files. others: the number
    of other files by suffix. unreadable: (name, reason) of places that could not be looked at.
    services, runs: folders that were not looked into.
    """

    images: dict[str, os.stat_result | None] = field(default_factory=dict)
    parquet: list[str] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    @property
    def unreadable_lines(self) -> tuple[tuple[str, str], ...]:
        """The places that could not be looked at, as the quarantine of a store lists them."""
        return tuple((utf8_name(name), reason) for name, reason in self.unreadable)

    def notes(self, root: Path) -> tuple[str, ...]:
        """Sentences on what was passed over, for the user."""
        notes = []
        if self.unreadable:
            name, reason = self.unreadable[0]
            notes.append(
                f"{plural(len(self.unreadable), 'place')} in {root} could not be read and "
                f"{'is' if len(self.unreadable) == 1 else 'are'} left out: {name} ({reason})"
                f"{' ...' if len(self.unreadable) > 1 else '.'}"
            )
        if self.images and self.parquet:
            notes.append(
                f"Passed over {_list(self.parquet, 'Parquet file')} of vectors or without a column "
                "of images."
            )
        if self.runs:
            notes.append(f"Passed over {_list(self.runs, 'folder')} of Coview's runs.")
        if self.services:
            notes.append(f"Passed over {_list(self.services, 'service folder')}.")
        notes += describe_others(self.others)
        if count := sum(n for suffix, n in self.others.items() if other_kind(suffix) is None):
            notes.append(
                f"Ignored {plural(count, 'file')} in {root} without the suffix of an image."
            )
        return tuple(notes)


def scan_folder(root: Path, pattern: Sequence[str] = ()) -> FolderScan:
    """All files under ``root``, except in hidden folders, service folders and runs.

    ``pattern``: only files, and folders with all that is in them, whose relative path matches it
    part by part. Links to folders are followed last, and each real folder is read once, so loops
    end and no image is listed twice. What cannot be looked at is noted. Raises DataError where that
    is ``root``.
    """
    scan = FolderScan()
    count = count_aloud(f"Listing {root}", "files and folders")
    visited: set[str] = set()
    top = os.fspath(root)
    folders, links = [top], list[str]()
    while folders or links:
        if not folders:
            links.sort(reverse=True)
        folder = folders.pop() if folders else links.pop()
        real = os.path.realpath(folder)
        if real in visited:
            continue
        visited.add(real)
        name = _relative(folder, top)
        try:
            with os.scandir(folder) as listed:
                entries = list(listed)
        except OSError as error:
            if folder == top:
                raise DataError(
                    f"The folder {root} cannot be read ({error.strerror}); "
                    "change its permissions or move it."
                ) from error
            scan.unreadable.append((name, error.strerror or str(error)))
            continue
        names = {entry.name for entry in entries}
        is_cache = CACHE_TAG in names and folder != top
        if is_cache or DESCRIPTION in names:
            (scan.services if is_cache else scan.runs).append(name)
            continue
        for entry in entries:
            count()
            name = _relative(entry.path, top)
            if not entry.name.startswith(".") and _may_match(name, pattern, entry):
                _add_entry(scan, entry, name, folders, links)
    return scan


def matches(parts: Sequence[str], pattern: Sequence[str], *, partial: bool = False) -> bool:
    """Whether a path, or a folder that it lies in, matches a pattern; "**" is any number of parts.

    ``partial``: whether what lies below the path may match.

    >>> matches(["a", "b", "x.png"], ["**", "*.png"]), matches(["a", "x.png"], ["*.png"])
    (True, False)
    >>> matches(["a", "x.png"], ["a"]), matches(["a"], ["a", "*.png"], partial=True)
    (True, True)
    """
    if not pattern:
        return True
    if pattern[0] == "**":
        rests = (parts[start:] for start in range(len(parts) + 1))
        return any(matches(rest, pattern[1:], partial=partial) for rest in rests) or partial
    if not parts:
        return partial
    return fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:], partial=partial)


def _may_match(name: str, pattern: Sequence[str], entry: os.DirEntry[str]) -> bool:
    if not pattern:
        return True
    try:
        is_folder = entry.is_dir()
    except OSError:  # noted where it is added
        is_folder = True
    return matches(name.split("/"), pattern, partial=is_folder)


def _add_entry(
    scan: FolderScan, entry: os.DirEntry[str], name: str, folders: list[str], links: list[str]
) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a million times
    is_image = suffix in readable_suffixes()
    try:
        if entry.is_dir():
            if is_service_folder(entry.name):
                scan.services.append(name)
            else:
                (links if entry.is_symlink() else folders).append(entry.path)
        elif not entry.is_file():
            entry.stat()  # says why not: a link that leads nowhere
            if is_image or suffix in (
                *TABLES,
                SHARD_SUFFIX,
            ):  # a pipe, a socket, a device: never opened
                scan.unreadable.append((name, "not a regular file"))
        elif is_image:
            scan.images[name] = entry.stat()
        elif suffix in TABLES:
            if not entry.name.startswith("cache-"):  # what `datasets` has computed
                scan.parquet.append(name)
        elif suffix == SHARD_SUFFIX:
            scan.shards.append(name)
        elif entry.name.lower() not in SERVICE_FILES:
            scan.others[suffix] += 1
    except OSError as error:
        if is_image:  # decoding reports it in the quarantine
            scan.images[name] = None
        else:
            scan.unreadable.append((name, error.strerror or str(error)))


def _relative(path: str, top: str) -> str:
    name = path[len(top) :].lstrip(os.sep)
    return name if os.sep == "/" else name.replace(os.sep, "/")


def _list(names: list[str], noun: str) -> str:
    shown = ", ".join(sorted(names)[:3]) + (" ..." if len(names) > 3 else "")
    return f"{plural(len(names), noun)} ({shown})"
