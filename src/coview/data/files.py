"""Image files that are given one by one: one of them, a list, or the paths in a table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coview.core.text import plural
from coview.data.folder import read_folder
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
from coview.data.parts import ALL
from coview.data.scan import FolderScan


def read_files(paths: Sequence[Path], options: SourceOptions, *, source: str) -> Listing:
    """The given files, named below the folder that they share; labels as in such a folder.

    A file that is not there has a line in the quarantine.
    """
    options.refuse("a list of images", labels_from="column")
    root = Path(os.path.commonpath([path.parent for path in paths]))
    scan = FolderScan(images={path.relative_to(root).as_posix(): _stat(path) for path in paths})
    listing = read_folder(root, scan, replace(options, split=options.split or ALL))
    # All are read where no part is named: none of them is left to test on.
    return replace(listing, source=source, parts=listing.parts if options.split else ())


def list_files(
    names: Sequence[str], paths: Sequence[Path], *, source: str,
    labels: npt.NDArray[np.int64] | None, class_names: tuple[str, ...],
) -> Listing:  # fmt: skip
    """Files under names of their own; a name that comes again is left out, with a note."""
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        first.setdefault(name, row)
    rows, again = list(first.values()), len(names) - len(first)
    names, paths = [names[row] for row in rows], [paths[row] for row in rows]
    stats = [_stat(path) for path in paths]
    sizes = [0 if stat is None else stat.st_size for stat in stats]
    facts = list(map(file_fact, paths, stats))

    def contents(selected: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        return ((paths[row], sizes[row]) for row in selected.tolist())

    return Listing(
        source=source, names=[utf8_name(name) for name in names], contents=contents,
        stamp=hash_lines(["files", source, *facts]), ids=image_ids(names),
        labels=None if labels is None else labels[rows], class_names=class_names,
        notes=(f"{plural(again, 'row')} of {source} left out: the file was named before.",)
        if again else (),
        stamps=row_stamps(facts), path_of=paths.__getitem__,
    )  # fmt: skip


def _stat(path: Path) -> os.stat_result | None:
    """What the system says of a file; None where it says nothing, which decoding reports."""
    try:
        return path.stat()
    except OSError:
        return None
