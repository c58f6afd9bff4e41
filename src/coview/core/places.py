"""What a user's words lead to: the one place that judges paths, for every verb and option."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Container, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from coview.core.errors import InvalidValue, StorageError
from coview.core.paths import Words, absolute_path, file_mode, local_path
from coview.core.run_folder import DESCRIPTION

EXPORT_FILES = ("config.json", "model.safetensors")
"""What makes a folder an exported network."""


class Kind(StrEnum):
    """What is at a place."""

    NAME = "name"
    RUN = "run"
    EXPORT = "export"
    FOLDER = "folder"
    FILE = "file"
    SPECIAL = "special"
    PATTERN = "pattern"
    ADDRESS = "address"
    MISSING = "missing"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Place:
    """What a user said, the absolute path that it means, and what is there.

    ``reason``: why a place is unreadable, in the words of the operating system.
    """

    words: str
    path: Path
    kind: Kind
    reason: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of any kind."""
        return self.kind in (Kind.FOLDER, Kind.RUN, Kind.EXPORT)

    @property
    def suffix(self) -> str:
        """The ending of the name in lower case, as ".parquet"."""
        return self.path.suffix.lower()


def place_of(words: Words, names: Container[str] = ()) -> Place:
    """The place that ``words`` mean; ``names`` are words that mean no path, as "cifar10".

    A path that exists is never taken for a pattern, nor one in folders that do. A pipe, a socket or
    a device is SPECIAL and must not be opened. Raises InvalidValue for an empty path.

    >>> place_of("cifar10", ["cifar10"]).kind.value, place_of("./cifar10", ["cifar10"]).kind.value
    ('name', 'missing')
    >>> place_of("photos/*.parquet").kind.value, place_of("s3://bucket/x").kind.value
    ('pattern', 'address')
    """
    if isinstance(words, str) and words in names:
        return Place(words, Path(words), Kind.NAME)
    text = os.fsdecode(words)
    if "://" in text and not text.startswith("file:"):
        return Place(text, Path(text), Kind.ADDRESS)
    path = absolute_path(words)
    try:
        mode = file_mode(path)
        if mode is None:
            kind = Kind.PATTERN if split_pattern(path)[1] else Kind.MISSING
        elif stat.S_ISDIR(mode):
            kind = _kind_of_folder(path)
        else:
            kind = Kind.FILE if stat.S_ISREG(mode) else Kind.SPECIAL
    except OSError as error:
        return Place(text, path, Kind.UNREADABLE, error.strerror or str(error))
    return Place(text, path, kind)


def split_pattern(path: Path) -> tuple[Path, tuple[str, ...]]:
    """(the folder below which a pattern matches, the parts of the pattern, none of a plain path).

    A folder that exists is none of them, whatever its name. Raises OSError as :func:`file_mode`.

    >>> folder, parts = split_pattern(Path("photos/**/*.png"))
    >>> folder.as_posix(), parts
    ('photos', ('**', '*.png'))
    """
    parts = path.parts
    for place, part in enumerate(parts):
        if glob.has_magic(part) and file_mode(Path(*parts[: place + 1])) is None:
            return Path(*parts[:place]), parts[place:]
    return path, ()


def is_named_by(place: Place, path: Path) -> bool:
    """Whether ``path``, a file that is there, is the file at ``place`` or matches its pattern.

    Links and other spellings of a path lead to the same file.
    """
    if place.kind is Kind.FILE:
        return place.path.samefile(path)
    if place.kind is not Kind.PATTERN:
        return False
    folder, parts = split_pattern(place.path)
    pattern = str(Path(glob.escape(str(folder)), *parts))
    names = glob.iglob(pattern, recursive=True)  # noqa: PTH207 - Path.glob raises for "**x"
    return any(n.lower().endswith(path.suffix.lower()) and path.samefile(n) for n in names)


def output_file(
    words: Words, endings: tuple[str, ...], *, name: str = "out",
    others: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """The path of a file to be written. ``endings`` are those that it may have, in lower case.

    ``name``: of the option that names the file. ``others``: ending -> the option for such a file.
    Raises InvalidValue for an empty path, a folder, an address, and a name with another ending,
    StorageError where nothing may be written: before the work that the file is for.

    >>> output_file("vectors.parquet", (".parquet",)).name
    'vectors.parquet'
    """
    if not os.fsdecode(words):
        raise InvalidValue(f"`{name}` is empty; expected the name of a file, as x{endings[0]}.")
    place = place_of(words)
    if place.kind is Kind.ADDRESS:
        raise InvalidValue(f"`{name}` is {place.words}, an address; expected a path here.")
    if place.is_folder or place.path.suffix == "":
        example = place.path / f"x{endings[0]}"
        raise InvalidValue(
            f"`{name}` is {place.words}, which is {'a folder' if place.is_folder else 'no file'}; "
            f"expected the name of a file, as {example}."
        )
    if place.suffix not in endings:
        other = (others or {}).get(place.suffix)
        raise InvalidValue(
            f"`{name}` is {place.words}; expected a name that ends in {' or '.join(endings)}."
            + (f" A {place.suffix} file is written by `{other}`." if other else "")
        )
    path = local_path(words)
    folder = path.parent
    while file_mode(folder) is None and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise StorageError(f"{path} cannot be written: {folder} is read-only. Set `{name}`.")
    return path


def free_file(path: Path, *beside: str) -> Path:
    """``path``, or where something is there already the first free one of NAME-2, NAME-3, ...

    ``beside``: endings of other files of that name, which must be free as well.

    >>> free_file(Path("nowhere/list.csv")).as_posix()
    'nowhere/list.csv'
    """
    free, number = path, 1
    while any(file_mode(free.with_suffix(ending)) is not None for ending in (path.suffix, *beside)):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def _kind_of_folder(path: Path) -> Kind:
    if file_mode(path / DESCRIPTION) is not None:
        return Kind.RUN
    if all(file_mode(path / name) is not None for name in EXPORT_FILES):
        return Kind.EXPORT
    return Kind.FOLDER
