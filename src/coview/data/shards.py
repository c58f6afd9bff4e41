"""Tar files of images, as WebDataset has them: read in place, nothing is unpacked.

Files of one name up to its first dot are one sample: an image (cat7.jpg) with its label (cat7.cls,
or a field of cat7.json). A plain tar of class folders is read as well. Only regular files are read,
at the place where the archive says that they lie; names are never taken for paths.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.core.paths import open_regular
from coview.core.progress import progress
from coview.core.text import plural
from coview.data.classes import LABEL_NAMES, Label, label_of_text, number_labels
from coview.data.kinds import is_service_folder, readable_suffixes
from coview.data.listing import (
    Content,
    Listing,
    Rejected,
    file_fact,
    hash_lines,
    image_ids,
    row_stamps,
    utf8_name,
)
from coview.data.options import SourceOptions

MAX_FILE, MAX_LABEL = 1 << 30, 1 << 20
"""Bytes of an image and of a label in a shard; larger ones are not read."""

_BROKEN = (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError, EOFError)


@dataclass(slots=True)
class _Shard:
    """One tar file: the name, the place and the size of each image, labels by sample.

    refused: links, devices and sparse files. broken: why it could not be read to its end.
    """

    path: Path
    files: list[tuple[str, int, int]]
    labels: dict[str, Label]
    refused: int = 0
    broken: str = ""


def read_shards(paths: Sequence[Path], options: SourceOptions, *, source: str) -> Listing:
    """The images of the given tar files, named "file.tar#name". Raises DataError without any.

    Labels: "column" is .cls or a field of .json ("label", or ``label_column``), "folders" the first
    folder of each name; "auto" takes the first of them that there is.
    """
    if options.columns[0] is not None:
        options.refuse("tar shards")
    ordered = sorted({path.resolve(): path for path in paths}.values())
    base = Path(os.path.commonpath([path.parent for path in ordered]))
    shards = []
    with progress("Listing", len(ordered), "shards") as advance:
        for path in ordered:
            shards.append(_look(path, options))
            advance()
    files = [file for shard in shards for file in shard.files]
    if not files:
        reason = next((f" ({s.path.name}: {s.broken})" for s in shards if s.broken), "")
        raise DataError(f"There are no images in {source}{reason}.")
    names = [f"{s.path.relative_to(base).as_posix()}#{n}" for s in shards for n, _, _ in s.files]
    labels, classes = _read_labels(shards, options)
    facts = [file_fact(path, path.stat()) for path in ordered]
    places = np.array([place[1:] for place in files], dtype=np.int64)
    ends = np.cumsum([0, *(len(shard.files) for shard in shards)])
    return Listing(
        source=source, names=[utf8_name(name) for name in names],
        contents=_Reader(ordered, ends, places), stamp=hash_lines(["shards", *facts]),
        ids=image_ids(names), labels=labels, class_names=classes, notes=tuple(_notes(shards)),
        unreadable=tuple((s.path.relative_to(base).as_posix(), s.broken)
                         for s in shards if s.broken),
        stamps=row_stamps(facts, [len(shard.files) for shard in shards]),
    )  # fmt: skip


def expand_braces(text: str) -> list[str]:
    """The names that a pattern such as WebDataset's means; of one without braces itself.

    >>> expand_braces("train-{008..010}.tar"), expand_braces("{a,b}.tar")
    (['train-008.tar', 'train-009.tar', 'train-010.tar'], ['a.tar', 'b.tar'])
    """
    parts = re.split(r"\{([^{}]*)\}", text)
    choices = [[part] if i % 2 == 0 else _alternatives(part) for i, part in enumerate(parts)]
    return ["".join(choice) for choice in product(*choices)]


def _alternatives(text: str) -> list[str]:
    bounds = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if bounds is None:
        return text.split(",")
    first, last = bounds.groups()
    if int(last) < int(first):
        raise DataError(f"{{{text}}} names no file: its last number is below the first.")
    if int(last) - int(first) >= 1_000_000:
        raise DataError(f"{{{text}}} names more than a million files.")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _look(path: Path, options: SourceOptions) -> _Shard:
    shard = _Shard(path, [], {})
    try:
        with open_regular(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # they would all stay in memory
                _add_member(shard, member, stream, options)
            stream.seek(archive.offset)  # tarfile takes a damaged header for the end
            if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
                shard.broken = f"damaged after {plural(len(shard.files), 'image')}"
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        shard.broken = f"{reason}, after {plural(len(shard.files), 'image')}"
    return shard


def _add_member(
    shard: _Shard, member: tarfile.TarInfo, stream: BinaryIO, options: SourceOptions
) -> None:
    if member.isdir():
        return
    if not member.isreg() or member.issparse() or member.offset_data < 0:
        shard.refused += 1
        return
    *folders, name = member.name.split("/")
    if name.startswith(".") or any(map(is_service_folder, folders)):
        return
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a million times
    if suffix in readable_suffixes():
        shard.files.append((member.name, member.offset_data, member.size))
    elif suffix in (".cls", ".json") and options.uses_labels and member.size <= MAX_LABEL:
        here = stream.tell()
        stream.seek(member.offset_data)
        label = _parse_label(stream.read(member.size), suffix, options.columns[1])
        stream.seek(here)
        if label is not None:
            shard.labels[_sample(member.name)] = label


def _sample(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _parse_label(content: bytes, suffix: str, field: str | None) -> Label:
    try:
        text = content.decode()
        if suffix == ".json":
            fields: Any = json.loads(text)
            names = LABEL_NAMES if field is None else (field,)
            value = next((fields[name] for name in names if name in fields), None)
            if isinstance(value, bool):
                return int(value)
            return value if isinstance(value, int | str) else None
    except (ValueError, TypeError, RecursionError):
        return None
    return None if field is not None else label_of_text(text)


def _read_labels(
    shards: list[_Shard], options: SourceOptions
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    if not options.uses_labels:
        return None, ()
    stated: list[list[Label]] = [
        [shard.labels.get(_sample(name)) for name, _, _ in shard.files] for shard in shards
    ]
    if options.labels_from != "folders" and any(shard.labels for shard in shards):
        return number_labels(stated, [()] * len(shards), "label")
    folders: list[list[Label]] = [
        [name.removeprefix("./").rpartition("/")[0].partition("/")[0] or None
         for name, _, _ in shard.files]
        for shard in shards
    ]  # fmt: skip
    known = {folder for each in folders for folder in each}
    if options.labels_from == "auto" and (None in known or len(known) < 2):
        return None, ()
    if options.labels_from == "column" or known == {None}:
        raise DataError(
            f"{shards[0].path} has no labels: neither .cls or .json files beside the images, nor "
            "folders of classes."
        )
    return number_labels(folders, [()] * len(shards), "folder")


def _notes(shards: list[_Shard]) -> Iterator[str]:
    if refused := sum(shard.refused for shard in shards):
        yield f"Refused {plural(refused, 'link, device or sparse file', 'links, devices or sparse files')} in the shards."  # noqa: E501
    broken = [shard for shard in shards if shard.broken]
    if broken:
        yield (
            f"{plural(len(broken), 'shard')} could not be read to the end, such as "
            f"{broken[0].path.name} ({broken[0].broken})."
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Reader:
    """Reads the given rows, shard by shard. Shapes: places int64 [N, 2], (offset, bytes)."""

    paths: list[Path]
    ends: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]

    def __call__(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        for number, path in enumerate(self.paths):
            first, last = np.searchsorted(rows, self.ends[number : number + 2])
            if first < last:
                with open_regular(path) as stream:
                    for offset, size in self.places[rows[first:last]].tolist():
                        yield _read(stream, offset, size), min(size, MAX_FILE)


def _read(stream: BinaryIO, offset: int, size: int) -> Content:
    if size > MAX_FILE:
        return Rejected(f"a file of more than {MAX_FILE >> 30} GiB")
    stream.seek(offset)
    content = stream.read(size)
    return content if len(content) == size else Rejected("the shard is cut short here")
