"""Mistakes in options that are seen without any network or image, before these are loaded.

What a field must be stands in its metadata, see :func:`coview.core.options.option`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coview.core.errors import InvalidValue, RunError, UnknownName
from coview.core.paths import file_mode, local_path
from coview.core.places import Kind, Place, is_named_by, output_file, place_of
from coview.core.run_folder import RunFolder, near_run
from coview.core.text import whole_numbers

NETWORK, NETWORKS, RUN, IMAGES = "network", "networks", "run", "images"
"""What a field names: a run or an exported encoder, things to judge, a run, images."""
VECTORS = "images or vectors"
"""Images, or the table of their vectors."""
IMAGE_NAMES = (IMAGES, VECTORS)
READ = "images that are read besides"
"""Images, or tables of them, that are looked for when they are opened."""


def check_options(options: Any) -> None:
    """Raise for the first mistake in ``options``, a dataclass of options.

    InvalidValue for a number below the ``least``, for arguments in the wrong order, for a file
    whose name has another ending, and for one that would replace images that are read; UnknownName
    for a word that is no choice; RunError where there is no run, with the nearest name;
    StorageError for a file that cannot be written.
    """
    fields = dataclasses.fields(options)
    for field in fields:
        value, least = getattr(options, field.name), field.metadata.get("least")
        if field.metadata.get("required") and value is None:
            raise InvalidValue(f"`{field.name}` is missing; expected {field.metadata['help']}.")
        if least is not None and value is not None and value < least:
            raise InvalidValue(f"`{field.name}` is {value:,}; expected at least {least}.")
        choices = field.metadata.get("choices")
        if choices and value is not None and value not in choices:
            raise UnknownName(field.name, str(value), choices)
        if field.metadata.get("numbers"):
            whole_numbers(field.name, value)
    _refuse_swapped(options)
    for field in fields:
        value = getattr(options, field.name)
        if value is None or not isinstance(value, str | Path):
            continue
        if field.metadata.get("names") == RUN:
            RunFolder.open(value)
        if field.metadata.get("names") == NETWORK:
            _require_network(place_of(value), field.name, fields)
        if endings := field.metadata.get("endings"):
            path = output_file(
                value, endings, name=field.name, others=_other_endings(options, field)
            )
            _refuse_replacing(path, field, options)


def require_network_at(place: Place) -> None:
    """Raise RunError where there is nothing, or a file."""
    if place.kind is Kind.MISSING:
        path = local_path(place.words)
        near = near_run(path, lambda each: is_network(place_of(each)))
        hint = f" Did you mean {path.parent / near}?" if near else ""
        raise RunError(f"There is no run or exported encoder {place.words}.{hint}")
    if place.kind is Kind.FILE:
        raise RunError(
            f"{place.words} is a file; expected the folder of a run or of an exported encoder."
        )


def _require_network(place: Place, name: str, fields: Sequence[dataclasses.Field[Any]]) -> None:
    """As :func:`require_network_at`; says where what stands there belongs."""
    images = [field for field in fields if field.metadata.get("names") in IMAGE_NAMES]
    vectors = [field.name for field in images if field.metadata["names"] == VECTORS]
    try:
        require_network_at(place)
    except RunError as error:
        if place.kind is not Kind.FILE or place.suffix != ".parquet" or not vectors:
            raise
        raise RunError(f"{error} A table of vectors is given as `{vectors[0]}`.") from None
    positional = [field.name for field in images if field.metadata.get("positional")]
    if place.kind is Kind.FOLDER and positional and not is_network(place):
        raise RunError(
            f"{place.words} is neither a run nor an exported encoder; expected `{name}`, such as "
            f"runs/photos, then `{positional[0]}`."
        )


def is_network(place: Place) -> bool:
    """Whether it is a run, an exported encoder, or a folder that holds one in encoder/."""
    if place.kind is Kind.FOLDER:
        return place_of(RunFolder(place.path).encoder_path).kind is Kind.EXPORT
    return place.kind in (Kind.RUN, Kind.EXPORT)


def _refuse_swapped(options: Any) -> None:
    """Raise InvalidValue where images stand before the run that embeds them, or the like."""
    by_kind: dict[str, dataclasses.Field[Any]] = {}
    for field in dataclasses.fields(options):
        if field.metadata.get("positional"):
            by_kind.setdefault(field.metadata.get("names", ""), field)
    images = by_kind.get(IMAGES) or by_kind.get(VECTORS)
    network = by_kind.get(NETWORK) or by_kind.get(NETWORKS)
    if images is None or network is None:
        return
    runs = list(_places(getattr(options, network.name)))
    data = next((each for each in _places(getattr(options, images.name)) if is_network(each)), None)
    if runs and data is not None and not any(map(is_network, runs)):
        raise InvalidValue(
            f"{data.words} is {'a run' if data.kind is Kind.RUN else 'an exported encoder'} and "
            f"{runs[0].words} is none; expected `{network.name}`, then `{images.name}`."
        )


def _refuse_replacing(path: Path, own: dataclasses.Field[Any], options: Any) -> None:
    """Raise InvalidValue where ``path``, the file of the option ``own``, is one that is read."""
    if file_mode(path) is None:
        return
    for field in dataclasses.fields(options):
        if field.metadata.get("names") not in (*IMAGE_NAMES, READ):
            continue
        if field.name in own.metadata.get("extends", ()):
            continue
        for place in _places(getattr(options, field.name)):
            if is_named_by(place, path):
                raise InvalidValue(
                    f"`{own.name}` is {path}, which `{field.name}` is read from and which would be "
                    "replaced; expected another file."
                )


def _places(value: Any) -> Iterator[Place]:
    words = value if isinstance(value, list | tuple) else [value]
    return (place_of(w) for w in words if isinstance(w, str | bytes | Path) and os.fspath(w))


def _other_endings(options: Any, own: dataclasses.Field[Any]) -> dict[str, str]:
    """Ending -> the option that takes a file of it, of other options than ``own``."""
    return {
        ending: field.name
        for field in dataclasses.fields(options)
        if field is not own
        for ending in field.metadata.get("endings", ())
    }
