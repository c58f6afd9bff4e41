"""Stores and features on disk: which there are, how much they may take, and room for another.

A store lies in ``stores/KEY`` of the cache folder, features of an evaluation in
``features/KEY.safetensors``. A process that writes one has a folder
``stores/.KEY.RANDOM.tmp``, whose file ``lock`` it keeps locked: the operating system frees the lock
of a process that has ended, however it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coview.core.files import lock_file, read_json
from coview.core.text import parse_bytes, plural
from coview.data.kinds import CACHE_TAG

LIMIT_VARIABLE, DEFAULT_LIMIT = "COVIEW_CACHE_LIMIT", "20GB"
MAX_SHARE_OF_FREE = 0.5
FEATURES = "features"
_OWN = re.compile(r"[0-9a-f]{32}(\.safetensors)?|\.[0-9a-f]{32}(\.safetensors)?\.[0-9a-f]+\.tmp")
"""The names of what Coview writes: nothing else in the cache folder is counted or removed."""
_MAX_HEADER = 1 << 16
_DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """A store or a file of features on disk, or what is left of one that is not whole.

    ``folder`` is its folder, or the file. size in bytes; used: when it was opened last, in seconds
    since 1970.
    """

    folder: Path
    size: int
    used: float
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSource:
    """What is on disk of one source of images: in how many files decoded images (``stores``) and
    features; the other fields as of an entry, those of all of them."""

    source: str
    size: int
    used: float
    stores: int
    features: int

    @property
    def words(self) -> str:
        """As "photos: decoded images, 4 files of features"."""
        decoded = "decoded images" if self.stores == 1 else plural(self.stores, "store")
        parts = [decoded if self.stores else "", f"{plural(self.features, 'file')} of features"]
        return f"{self.source}: {', '.join(filter(None, parts[: 1 + (self.features > 0)]))}"


def by_source(entries: Sequence[CacheEntry]) -> list[CachedSource]:
    """The entries by the images that they are of, the source used last first.

    >>> entries = [CacheEntry(folder=Path(FEATURES) / name, size=1, used=0.0, description=text)
    ...     for name, text in (("a", "h of trained, 60 images of photos"),
    ...                        ("b", "z of trained, 60 images of photos"))]
    >>> [each.words for each in by_source(entries)]
    ['photos: 2 files of features']
    """
    groups: dict[str, list[CacheEntry]] = {}
    for entry in entries:
        found = re.search(r"images? of (.*)", entry.description, re.DOTALL)
        groups.setdefault(found[1] if found else entry.description, []).append(entry)
    made = [
        CachedSource(
            source=source, size=sum(each.size for each in own),
            used=max(each.used for each in own),
            features=(features := sum(each.folder.parent.name == FEATURES for each in own)),
            stores=len(own) - features,
        )
        for source, own in groups.items()
    ]  # fmt: skip
    return sorted(made, key=lambda each: -each.used)


def cache_limit() -> int:
    """The bytes that all stores and features may take together: $COVIEW_CACHE_LIMIT, else 20 GB."""
    return parse_bytes(os.environ.get(LIMIT_VARIABLE) or DEFAULT_LIMIT)


def allowance(cache: Path) -> int:
    """The bytes that one more entry may take: the limit, and at most half of what is free."""
    limit = cache_limit()
    with contextlib.suppress(OSError):
        old = sum(entry.size for entry in cache_entries(cache))
        return min(limit, int(MAX_SHARE_OF_FREE * (_free_bytes(cache) + old)))
    return limit


def _free_bytes(place: Path) -> int:
    """What is free where ``place`` is or will be."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def cache_entries(cache: Path) -> list[CacheEntry]:
    """The stores and features in a cache folder, the one used last first.

    Other files there are left alone: the folder may be one that the user has for other things.
    """
    found: list[os.DirEntry[str]] = []
    with contextlib.suppress(OSError):
        found += [entry for entry in os.scandir(cache / "stores") if entry.is_dir()]
    with contextlib.suppress(OSError):
        found += [entry for entry in os.scandir(cache / FEATURES) if entry.is_file()]
    paths = [Path(entry.path) for entry in found if _OWN.fullmatch(entry.name)]
    return sorted(map(_entry, paths), key=lambda entry: -entry.used)


def feature_file(cache: Path, key: str) -> Path:
    """The file of the features with this key."""
    return cache / FEATURES / f"{key}.safetensors"


def tag_folder(cache: Path) -> None:
    """Mark the cache folder, so that programs for backups leave it out."""
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        (cache / CACHE_TAG).write_bytes(b"Signature: 8a477f597d28d172789f06886806bc55\n")


def make_room(cache: Path, size: int) -> None:
    """Remove what was used least recently until ``size`` more bytes fit the limit, and into the
    share of the free disk that :func:`allowance` grants.

    Their pixels stay valid for a process that has them open.
    """
    remove_unfinished(cache)
    entries = cache_entries(cache)
    excess = sum(entry.size for entry in entries) + size - cache_limit()
    with contextlib.suppress(OSError):
        excess = max(excess, int(size / MAX_SHARE_OF_FREE) - _free_bytes(cache))
    for entry in reversed(entries):
        if excess > 0 and not is_being_written(entry.folder):
            _remove(entry)
            excess -= entry.size


def clear_cache(cache: Path) -> list[CacheEntry]:
    """Remove all entries but those that are being written; returns what was removed."""
    removed = []
    for entry in cache_entries(cache):
        if not is_being_written(entry.folder):
            _remove(entry)
            removed.append(entry)
    return removed


def remove_unfinished(cache: Path) -> None:
    """Remove what processes have left that ended while they wrote a store."""
    for entry in cache_entries(cache):
        if entry.folder.name.endswith(".tmp") and not is_being_written(entry.folder):
            _remove(entry)


@contextlib.contextmanager
def part_folder(folder: Path) -> Iterator[Path]:
    """A new, locked folder to write the store ``folder`` in; what is left of it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    tag_folder(folder.parent.parent)
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    part.mkdir()
    descriptor = os.open(part / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        lock_file(descriptor)
        yield part
    finally:
        os.close(descriptor)
        shutil.rmtree(part, ignore_errors=True)


def is_being_written(folder: Path) -> bool:
    """Whether a process is writing this store. Where that cannot be known: for a day."""
    if not folder.name.endswith(".tmp"):
        return False
    with contextlib.suppress(OSError):
        descriptor = os.open(folder / "lock", os.O_RDWR)
        locked = lock_file(descriptor)
        os.close(descriptor)
        if locked is not None:
            return not locked
    with contextlib.suppress(OSError):
        paths = ([*folder.iterdir()] if folder.is_dir() else []) or [folder]
        newest = max(path.stat().st_mtime for path in paths)
        return time.time() - newest < _DAY
    return False


def _entry(folder: Path) -> CacheEntry:
    size, used = 0, 0.0
    with contextlib.suppress(OSError):
        for path in folder.iterdir() if folder.is_dir() else [folder]:
            status = path.stat()
            size, used = size + status.st_size, max(used, status.st_mtime)
    description = "not finished" if folder.name.endswith(".tmp") else "of an earlier version"
    with contextlib.suppress(Exception):  # any content: it is only listed
        if folder.parent.name == FEATURES:
            description = _description_of_features(folder)
        else:
            description = str(read_json(folder / "store.json")["description"])
    return CacheEntry(folder=folder, size=size, used=used, description=description)


def _description_of_features(path: Path) -> str:
    """What the header of a safetensors file of features says of them."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(min(length, _MAX_HEADER)))
    return str(json.loads(header["__metadata__"]["coview"])["description"])


def _remove(entry: CacheEntry) -> None:
    if entry.folder.is_dir():
        shutil.rmtree(entry.folder, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        entry.folder.unlink()
