"""Why a place is no source of images, in one sentence with the nearest name that is one."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from coview.core.errors import CoviewError, DataError, UnknownName, nearest
from coview.core.paths import local_path
from coview.core.places import Kind, Place
from coview.data.kinds import other_kind


def refuse_place(place: Place, names: Collection[str]) -> CoviewError:
    """The error for a place that cannot be opened; ``names`` are the data sets known by name."""
    match place.kind:
        case Kind.ADDRESS:
            return DataError(
                f"{place.words} is an address; download it and give the folder or file."
            )
        case Kind.UNREADABLE:
            return DataError(f"{place.path} cannot be read: {place.reason}.")
        case Kind.SPECIAL:
            return DataError(
                f"{place.path} is a pipe, a socket or a device; expected a folder or a file."
            )
        case Kind.RUN | Kind.EXPORT:
            what = "the folder of a run" if place.kind is Kind.RUN else "an exported encoder"
            return DataError(f"{place.path} is {what}; expected images.")
        case Kind.FILE:
            return DataError(f"{place.path} {_describe_file(place.suffix)}")
        case _:
            return _missing(place, names)


def _describe_file(suffix: str) -> str:
    kind = other_kind(suffix)
    if kind is not None and kind.name == "archive":
        return "is an archive; unpack it (gunzip a .tar.gz) and give the folder, or the .tar."
    if kind is not None:
        return f"is a file of a kind that cannot be read ({kind.name}): {kind.remedy}."
    return "is a file; expected images, a folder of them, Parquet, CSV, or a .tar of images."


def _missing(place: Place, names: Collection[str]) -> CoviewError:
    path = local_path(place.words)
    near = nearest(path.name, _names_in(path.parent))
    if place.words == path.name and not path.suffix:
        if near is None or nearest(path.name, [near, *names]) != near:
            return UnknownName("folder, file or data set", path.name, names)
    elif not path.parent.is_dir():
        parent = nearest(path.parent.name, _names_in(path.parent.parent))
        hint = f" Did you mean {path.parent.with_name(parent) / path.name}?" if parent else ""
        return DataError(f"There is no {path}, since there is no folder {path.parent}.{hint}")
    hint = f" Did you mean {path.with_name(near)}?" if near else ""
    return DataError(f"There is no folder or file {path}.{hint}")


def _names_in(folder: Path) -> list[str]:
    """The names in ``folder``, for a hint; none where it is absent or cannot be read."""
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208
    except OSError:
        return []
