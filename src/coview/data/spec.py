"""Where images are and how they are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coview.core.errors import DataError, UnknownName
from coview.core.images import ImageStore
from coview.core.machine import processes_here
from coview.data.sources import LABELS, open_images

# Photographs are kept at the short side that evaluation at 224 px starts from everywhere.
SHORT_SIDE = 256


def short_side_for(source: Any, size: int | None, asked: int | None) -> int | None:
    """The short side at which images are kept: as asked, else 256 px or 1.15 times the views.

    The scenes are drawn at the size of the views, 32 px unless told otherwise.
    """
    if asked is not None:
        return asked
    if isinstance(source, str) and source.startswith("scenes"):
        return size
    return max(SHORT_SIDE, round(1.15 * (size or 0)))


def open_for(source: Any, *, labels: str, needs_labels: bool = False, **options: Any) -> ImageStore:
    """``source`` with labels as asked: "auto" takes them where they are plain.

    The sub-folders of a folder are taken for labels only where ``needs_labels`` or asked for.
    """
    if labels not in {*LABELS, "none"}:
        raise UnknownName("place of labels", labels, (*LABELS, "none"))
    is_folder = isinstance(source, (str, Path)) and Path(source).is_dir()
    if labels == "auto" and is_folder and not any(Path(source).rglob("*.parquet")):
        if needs_labels and not any(entry.is_dir() for entry in Path(source).iterdir()):
            raise DataError(
                f"This learns from labels, or judges by them, and {source} has none: put the "
                "images of each class into a sub-folder of its own. `coview pretrain --recipe "
                "simclr` learns without labels."
            )
        asked = "folders" if needs_labels else None
    else:
        asked = None if labels == "none" else labels
    if "memory_share" in options:  # of the machine, which other processes of this run may share
        options["memory_share"] /= processes_here()
    return open_images(source, labels=asked, **options)
