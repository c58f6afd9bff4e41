"""Which images to label next."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from coview.core.errors import DataError, InvalidValue, RunError
from coview.core.files import entries, exists, read_errors, storage_errors, write_text
from coview.core.options import takes
from coview.core.progress import progress, say
from coview.core.text import plural
from coview.embeddings.selection import select_rows
from coview.options import SelectOptions
from coview.runs.embed import write_table
from coview.runs.labeled import labeled_images
from coview.runs.load import say_verdict
from coview.runs.map import vectors_table

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("order", "name", "path", "reason", "mean_distance")


@takes(SelectOptions)
def select(options: SelectOptions) -> pa.Table:
    """The ``number`` images of ``data``, by default those of the run, to label next.

    The columns: order, id, name, path, reason, and mean_distance: of all images to their nearest
    chosen or labeled one from then on, by cosine (coverage; null of other strategies).

    ``labeled`` images count as chosen: images, or tables of their names or paths, of ``data`` or
    of elsewhere. ``path`` is absolute, and null for an image that is no file of its own, or whose
    path is not UTF-8. Written as CSV or Parquet to ``out``, where given. The strategies: see
    :func:`coview.embeddings.select_rows`.
    Raises RunError, InvalidValue, UnknownName, DataError, StorageError.

    >>> import coview
    >>> chosen = coview.select("runs/scenes", "scenes", number=3, limit=40)
    >>> chosen.column_names, chosen["order"].to_pylist()
    (['order', 'id', 'name', 'path', 'reason', 'mean_distance'], [1, 2, 3])
    """
    import pyarrow as pa

    number, out = options.number, options.out
    assert number is not None
    if options.copy_to is not None:
        _require_empty(options.copy_to)
    say_verdict(options.run)
    table = vectors_table(options, require=partial(_require_enough, number))
    if options.copy_to is not None and not any(table.paths):
        raise DataError(
            "These images are no files of their own and cannot be copied; leave out `copy_to`."
        )
    labeled, outside = labeled_images(table, options)
    if len(labeled) or len(outside):
        elsewhere = f" and {len(outside):,} from elsewhere" if len(outside) else ""
        say(f"Labeled already: {len(labeled):,} of these images{elsewhere}.", detail=True)
    left = len(table) - len(labeled)
    if not left:
        raise InvalidValue(
            f"All {plural(len(table), 'image')} are labeled: none is left to choose."
        )
    _require_enough(number, len(table), len(labeled))
    rows = torch.from_numpy(np.concatenate([table.vectors(options.layer), outside]))
    beyond = np.arange(len(table), len(rows))
    choices = select_rows(
        rows, number, options.strategy, labeled=np.concatenate([labeled, beyond]), seed=options.seed
    )
    chosen = [choice.row for choice in choices]
    places = [table.paths[row] for row in chosen]
    if options.copy_to is not None and None in places:
        raise DataError(
            f"{table.names[chosen[places.index(None)]]} cannot be copied: its path is not UTF-8. "
            "Rename it, or leave out `copy_to`."
        )
    selection = pa.table({
        "order": pa.array(range(1, number + 1), pa.int64()),
        "id": pa.array(table.ids[chosen]),
        "name": pa.array([table.names[row] for row in chosen], pa.string()),
        "path": pa.array([None if p is None else str(p) for p in places], pa.string()),
        "reason": pa.array([choice.reason for choice in choices], pa.string()),
        "mean_distance": pa.array([choice.mean_distance for choice in choices], pa.float64()),
    })  # fmt: skip
    if out is not None:
        write_selection(selection, out)
    if options.copy_to is not None:
        copy_files([path for path in places if path is not None], options.copy_to)
    return selection


def write_selection(selection: pa.Table, path: Path) -> None:
    """As Parquet, or as CSV without the ids. Says where it replaces a file."""
    if path.suffix.lower() == ".parquet":
        write_table(selection, path)
        return
    if exists(path):
        say(f"{path} is there already and is replaced.")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(*(selection[name].to_pylist() for name in COLUMNS), strict=True))
    write_text(path, text.getvalue())


def copy_files(paths: Sequence[Path], folder: Path) -> None:
    """Copies named 0001-NAME in the order of ``paths``.

    Raises UnreadableFile for a path that cannot be read, StorageError.
    """
    digits = max(4, len(str(len(paths))))
    with progress("Copying", len(paths)) as advance, storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for order, path in enumerate(paths, start=1):
            with read_errors(path):
                content = path.read_bytes()
            (folder / f"{order:0{digits}}-{path.name}").write_bytes(content)
            advance()
    say(f"{len(paths):,} copies: {folder}")


def _require_enough(number: int, images: int, labeled: int = 0) -> None:
    if number > images - labeled:
        rest = f", {labeled:,} of them labeled already" if labeled else ""
        raise InvalidValue(
            f"`number` is {number:,}; expected at most {images - labeled:,}, of "
            f"{plural(images, 'image')}{rest}."
        )


def _require_empty(folder: Path) -> None:
    if exists(folder) and (not folder.is_dir() or entries(folder)):
        raise RunError(f"{folder} is there already; expected a new folder as `copy_to`.")
