"""A folder of image files, of any nesting."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError, NoLabels
from coview.core.text import plural
from coview.data.listing import (
    Content,
    Listing,
    file_fact,
    hash_lines,
    image_ids,
    row_stamps,
    utf8_name,
)
from coview.data.options import SourceOptions
from coview.data.parts import ALL, part_of_word, select_part
from coview.data.scan import FolderScan


def read_folder(root: Path, scan: FolderScan, options: SourceOptions) -> Listing:
    """The images under ``root`` by relative name; with labels, the folder of each.

    If every image lies in a folder that is named as a part (train, val, test), one part is read,
    and the classes are its sub-folders. With other images beside two parts all are read, without
    classes, and a note says so, unless ``options.split`` names one of them. Else the classes are
    the first-level folders; "auto" takes them only if there are two or more and no image lies
    beside them. Images beside the class folders get the label -1.
    """
    names, parts, notes = _select_part(root, sorted(scan.images), options)
    stats = [scan.images[name] for name in names]
    sizes = [0 if stat is None else stat.st_size for stat in stats]
    facts = list(map(file_fact, names, stats))

    def contents(rows: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        return ((root / names[row], sizes[row]) for row in rows.tolist())

    first = first_folders(names, parts)
    classes = _select_classes(root, first, options)
    numbers = {name: number for number, name in enumerate(classes)}
    return Listing(
        source=str(root),
        names=[utf8_name(name) for name in names],
        contents=contents,
        stamp=hash_lines(["folder", str(root.resolve()), *facts]),
        ids=image_ids(names),
        labels=np.array([numbers.get(f, -1) for f in first], np.int64) if classes else None,
        class_names=tuple(utf8_name(name) for name in classes),
        notes=(*notes, *scan.notes(root)),
        unreadable=scan.unreadable_lines,
        parts=parts,
        stamps=row_stamps(facts),
        path_of=lambda row: root / names[row],
    )


def first_folders(names: Sequence[str], parts: Sequence[str]) -> list[str]:
    """The first-level folder of each name, "" for none; of data with ``parts`` within its part.

    >>> first_folders(["cat/1.jpg", "2.jpg"], ()), first_folders(["train/cat/1.jpg"], ["train"])
    (['cat', ''], ['cat'])
    """
    inside = [name.partition("/")[2] for name in names] if parts else names
    return [name.partition("/")[0] if "/" in name else "" for name in inside]


def _select_part(
    root: Path, names: list[str], options: SourceOptions
) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """The names of the part to read, all parts, and a sentence where others are left out."""
    part_of = {name: part_of_word(name.partition("/")[0]) for name in names if "/" in name}
    parts = tuple(sorted({part for part in part_of.values() if part}))
    others = [name for name in names if part_of.get(name) is None]
    is_named = options.split not in (None, ALL)
    if others and len(parts) > 1 and not is_named:
        note = (
            f"{root} has the parts {', '.join(parts)} and {plural(len(others), 'image')} beside "
            f"them, such as {utf8_name(others[0])}: all are read, the test images too. Open one "
            f"part, such as {root / next(iter(part_of)).partition('/')[0]}, or take the others out."
        )
        return names, (), (note,)
    if not parts or (others and not is_named):
        return names, (), ()
    part = select_part(parts, options.split, for_test=options.for_test, source=str(root))
    selected = names if part == ALL else [name for name in names if part_of.get(name) == part]
    note = (
        f"{root} has the parts {', '.join(parts)}: reading {part}, {len(selected):,} of "
        f"{len(names):,} images (`split` selects another, or all)."
    )
    return selected, parts, () if len(selected) == len(names) else (note,)


def clear_classes(first: Collection[str]) -> tuple[str, ...]:
    """The folders of ``first``, that of each image ("" for none), where they look like classes:
    two or more, no image beside them, and no parts.

    >>> clear_classes(["cat", "dog", "cat"]), clear_classes(["cat", "dog", ""])
    (('cat', 'dog'), ())
    """
    classes = tuple(sorted(set(first)))
    return () if "" in classes or len(classes) < 2 or _parts_among(classes) else classes


def _parts_among(classes: Sequence[str]) -> list[str]:
    """Those of the folders that are parts of a data set, where the folders are no classes."""
    parts = [name for name in classes if part_of_word(name)]
    several = len(set(map(part_of_word, parts))) > 1
    return parts if several or 0 < len(classes) == len(parts) else []


def _select_classes(root: Path, first: list[str], options: SourceOptions) -> tuple[str, ...]:
    """The class names: folders of ``first``, that of each image ("" for none)."""
    automatic = options.labels_from == "auto"
    if not options.uses_labels or (automatic and options.needs_labels is False):
        return ()
    if automatic and not options.needs_labels:
        return clear_classes(first)
    classes = tuple(sorted({name for name in first if name}))
    if not classes:
        raise NoLabels(
            f"Labels are the names of sub-folders, and {root} has none; put the images of each "
            "class into a folder of its own."
        )
    if parts := _parts_among(classes):
        raise DataError(
            f"The sub-folders of {root} ({', '.join(parts)}) are parts of a data set, not "
            f"classes; open one of them, such as {root / parts[0]}."
        )
    return classes
