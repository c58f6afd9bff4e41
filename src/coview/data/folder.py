"""A folder of image files, of any nesting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.core.text import plural
from coview.data.listing import Content, Listing, hash_lines, image_ids

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif",
})
# fmt: on
"""The suffixes of image files; the content decides only whether an image is usable."""

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


@dataclass(slots=True)
class FolderScan:
    """The files of a folder: images and Parquet files by relative path; ``stray`` counts others."""

    images: dict[str, os.stat_result | None] = field(default_factory=dict)
    parquet: list[str] = field(default_factory=list)
    stray: int = 0


def scan_folder(root: Path) -> FolderScan:
    """All files under ``root``; hidden files and folders are skipped.

    Links to folders are followed last, and each real folder is read once, so loops end and no image
    is listed twice. Raises DataError for a folder that cannot be read.
    """
    scan = FolderScan()
    visited: set[str] = set()
    folders, links = [root], list[Path]()
    while folders or links:
        if not folders:
            links.sort(reverse=True)
        folder = folders.pop() if folders else links.pop()
        real = os.path.realpath(folder)
        if real in visited:
            continue
        visited.add(real)
        for entry in _list_entries(folder):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(Path(entry.path))
            elif entry.is_file() or entry.is_symlink():  # not a pipe: reading one never ends
                _add_entry(scan, root, entry)
    return scan


def read_folder(root: Path, scan: FolderScan, labels: str | None) -> Listing:
    """The images under ``root`` by relative name; with labels, the first-level folder of each.

    labels: None, "folders", or "auto" (labels only where every image lies in one of at least two
    sub-folders). Images beside the class folders get the label -1.
    """
    ignored = f"Ignored {plural(scan.stray, 'file')} in {root} without the suffix of an image."
    names = sorted(scan.images)
    stats = [scan.images[name] for name in names]
    sizes = [0 if stat is None else stat.st_size for stat in stats]
    times = [0 if stat is None else stat.st_mtime_ns for stat in stats]
    facts = (f"{n} {s} {t}" for n, s, t in zip(names, sizes, times, strict=True))

    def contents(rows: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        return ((root / names[row], sizes[row]) for row in rows.tolist())

    classes = _find_classes(root, names, labels)
    numbers = {name: number for number, name in enumerate(classes)}
    first = [name.partition("/")[0] if "/" in name else "" for name in names]
    return Listing(
        source=str(root),
        # Names that are not UTF-8 are escaped, so that every file of a run can hold them.
        names=[name.encode("utf-8", "backslashreplace").decode() for name in names],
        contents=contents,
        stamp=hash_lines(["folder", str(root.resolve()), *facts]),
        ids=image_ids(names),
        labels=np.array([numbers.get(f, -1) for f in first], np.int64) if classes else None,
        class_names=classes,
        notes=(ignored,) if scan.stray else (),
    )


def _list_entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be read ({error.strerror}); "
            "change its permissions or move it."
        ) from error


def _add_entry(scan: FolderScan, root: Path, entry: os.DirEntry[str]) -> None:
    name = Path(entry.path).relative_to(root).as_posix()
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a million times
    if suffix in IMAGE_SUFFIXES:
        scan.images[name] = _stat(entry)
    elif suffix == ".parquet":
        scan.parquet.append(name)
    else:
        scan.stray += 1


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # A dangling link; decoding reports it in the quarantine.
        return None


def _find_classes(root: Path, names: list[str], labels: str | None) -> tuple[str, ...]:
    if labels is None:
        return ()
    classes = tuple(sorted({name.partition("/")[0] for name in names if "/" in name}))
    are_splits = len(classes) > 0 and all(name.lower() in SPLITS for name in classes)
    if labels == "auto":
        usable = len(classes) > 1 and not are_splits and all("/" in name for name in names)
        return classes if usable else ()
    if not classes:
        raise DataError(
            f"`labels` is {labels!r}, but {root} has no sub-folders to take them from; "
            "put the images of each class into a folder of its own, or leave `labels` out."
        )
    if are_splits:
        raise DataError(
            f"The sub-folders of {root} ({', '.join(classes)}) are parts of a data set, not "
            f"classes; open one of them, such as {root / classes[0]}."
        )
    return classes
