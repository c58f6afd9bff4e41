"""Brings a table of vectors up to date: embeds what is new, takes over the rest, loses nothing."""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.files import exists, replacing
from coview.core.images import ImageStore
from coview.core.progress import progress, say
from coview.core.temporary import sweep
from coview.core.text import plural
from coview.embeddings.table import EmbeddingTable, changed_meanwhile, file_version
from coview.embeddings.table_schema import MAP_LAYER, OWN, PREFIX
from coview.embeddings.table_writer import TableWriter
from coview.evaluation.features import vectors_of_parts
from coview.reports.pictures import shrink
from coview.runs.data import say_source
from coview.runs.embed_job import (
    OPENED,
    SOURCE,
    Block,
    Job,
    KnownRows,
    Rows,
    columns_of,
    joined,
    known_table,
    part_of,
    tables_beside,
)
from coview.runs.embed_journal import Journal

BATCH, WINDOW = 256, 4096
"""Images of one forward pass at most, and rows that are put in order at a time."""
THUMBNAIL = 128
"""The longer side of a picture in the column of images, in pixels."""


def update_table(job: Job, path: Path | None, folder: Path) -> EmbeddingTable:
    """The table of the images of ``job``, in ``path`` or in memory.

    Vectors of equal images by the same network are taken from the table that is there, from what
    an interrupted call has left, and from the tables of other parts of the images in ``folder``.
    Says how many were embedded.
    """
    # Before the table is opened: else what another command writes just then would pass for it.
    version = None if path is None else file_version(path)
    before = None if path is None else known_table(path, job.network)
    if before is not None and _is_current(before, job):
        say(f"The vectors of {plural(len(before), 'image')} are in {path} already.", detail=True)
        return before
    if path is not None and before is None and exists(path):
        say(
            f"{path} is there already, of another encoder or no table of this kind; it is replaced."
        )
    if before is not None:
        kept = [name for name in before.layers if name in job.subject.all_layers]
        job = replace(
            job, layers=tuple(dict.fromkeys([*job.layers, *kept])),
            images=job.images or "image" in before.column_names,
        )  # fmt: skip
    journal = Journal(path, job)
    tables = [*([] if before is None else [before]), *tables_beside(path, folder, job)]
    known = KnownRows([*journal.tables(), *tables], job)
    with journal:
        if path is None:
            table, count = _write(job, None, known, journal)
        else:
            # Columns that were added need a second writing. Were `path` the first of the two, it
            # would lack them if the second failed.
            sweep(path)
            with replacing(path) as place:
                table, count = _write(job, place, known, journal)
                if file_version(path) != version:
                    before = _changed(path, job)
                if before is not None:
                    _keep_added(table, before)
            table = EmbeddingTable.open(path)
    journal.remove()
    say_source(job.stream)
    if journal.count < count:
        known_rows = count - journal.count
        say(
            f"Embedded {plural(journal.count, 'image')}; the vectors of {known_rows:,} were there "
            "already."
        )
    return table


def _write(
    job: Job, place: Path | None, known: KnownRows, journal: Journal
) -> tuple[EmbeddingTable, int]:
    """The table in ``place`` or in memory, and the number of its rows."""
    writer = TableWriter(
        place, job.layers, job.stream.class_names, job.all_metadata, images=job.images
    )
    with writer:
        for block in _in_order(job, known, journal):
            writer.append(columns_of(job, block))
        job.stream.check()
        left_out = [list(entry) for entry in job.stream.quarantine]
        writer.metadata[f"{PREFIX}left_out"] = json.dumps(left_out)
    return writer.table(), writer.count


def _changed(path: Path, job: Job) -> EmbeddingTable | None:
    """The table that another command has written meanwhile; None where ours may replace all of it.

    Raises StorageError where it has vectors or pictures that ours lacks.
    """
    table = known_table(path, job.network)
    if table is None:
        return None
    has_all = set(table.layers) <= set(job.layers) and ("image" in table.column_names) <= job.images
    if not (has_all and np.isin(table.ids, job.stream.ids).all()):
        raise changed_meanwhile(path)
    return table


def _is_current(table: EmbeddingTable, job: Job) -> bool:
    """Whether a table of the same network is of the same listing, with all that is wanted."""
    wanted = {*job.layers, *(["image"] if job.images else [])}
    return (
        table.metadata.get(f"{PREFIX}listing") == job.listing
        and table.metadata.get(SOURCE) == job.metadata.get(SOURCE)
        and wanted <= set(table.column_names)
        and OPENED in table.metadata
    )


def _keep_added(table: EmbeddingTable, before: EmbeddingTable) -> None:
    """Write ``table`` again with the columns that others have added to ``before``: where the images
    are the same, a map or groups still hold. Says which are left out otherwise."""
    assert table.path is not None
    added = [name for name in before.column_names if name not in (*OWN, *before.layers, "image")]
    if not added:
        return
    if not table.has_images_of(before):
        say(f"The columns {', '.join(added)} are left out: they were of the images before.")
        return
    kept = {key: text for key, text in before.metadata.items() if key == MAP_LAYER}
    table.with_columns({name: before[name] for name in added}, kept).write(table.path)


def thumbnails(part: ImageStore) -> list[dict[str, Any]]:
    """Each image as a small JPEG, as Hugging Face's, FiftyOne's and others' columns hold it."""
    from PIL import Image

    pictures = []
    for row, name in enumerate(part.names):
        stream = io.BytesIO()
        Image.fromarray(shrink(part.image(row), THUMBNAIL)).save(stream, "JPEG", quality=85)
        pictures.append({"bytes": stream.getvalue(), "path": name})
    return pictures


def _in_order(job: Job, known: KnownRows, journal: Journal) -> Iterator[Block]:
    """All rows of the stream but those of unusable images, in order, some thousands at a time."""
    stream = job.stream
    index = known.find(stream.ids)
    reused = known.same_files(index, stream.stamps)
    new = np.flatnonzero(~reused)
    with progress("Embedding", len(new)) as advance:
        decoded = _decoded(job, known, index, new, journal, advance)
        waiting: list[Block] = []
        for start in range(0, len(stream), WINDOW):
            stop = min(start + WINDOW, len(stream))
            rows = np.arange(start, stop, dtype=np.int64)
            old = rows[reused[start:stop]]
            blocks = [known.block(old, index[old])] if len(old) else []
            if len(old) < len(rows):
                while not waiting or waiting[-1]["row"][-1] < stop:
                    block = next(decoded, None)
                    if block is None:
                        break
                    waiting.append(block)
                blocks += [part_of(b, b["row"] < stop) for b in waiting if b["row"][0] < stop]
                waiting = [part_of(b, b["row"] >= stop) for b in waiting if b["row"][-1] >= stop]
            if blocks:
                yield joined(blocks)


def _decoded(
    job: Job, known: KnownRows, index: Rows, new: Rows, journal: Journal, advance: Any
) -> Iterator[Block]:
    """The rows ``new``, decoded, in order; those are embedded whose pixels are not known."""
    queue: deque[tuple[Block, npt.NDArray[np.bool_]]] = deque()

    def to_embed() -> Iterator[ImageStore]:
        # A part that is known is handed on as well, without images: else all such parts would be
        # decoded before the next block comes.
        for rows, part in job.stream.parts(new, most=BATCH):
            same = known.same_pixels(index[rows], part)
            facts: Block = {
                "row": rows, "width": part.widths.astype(np.int64),
                "height": part.heights.astype(np.int64), "pixel_hash": part.content,
            }  # fmt: skip
            if job.images:
                facts["image"] = thumbnails(part)
            queue.append((facts, same))
            yield part.subset(np.flatnonzero(~same)) if same.any() else part

    for part, vectors in vectors_of_parts(job.subject, to_embed(), job.layers, device=job.device):
        facts, same = queue.popleft()
        blocks: list[Block] = []
        if same.any():
            old = part_of(facts, same)
            blocks.append({**old, **known.values(index[old["row"]], job.layers)})
        if len(part):
            block = part_of(facts, ~same)
            block |= {name: values.numpy() for name, values in vectors.items()}
            journal.save(block)
            blocks.append(block)
        yield joined(blocks)
        advance(len(same))
