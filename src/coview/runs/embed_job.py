"""What is embedded and how, and the rows that are known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coview.core.errors import CoviewError, InvalidValue
from coview.core.files import digest, entries, exists
from coview.core.images import ImageStore
from coview.core.tensors import weights_fingerprint
from coview.core.values import encode
from coview.core.version import VERSION
from coview.data.spec import DataSpec, source_of
from coview.data.stream import ImageStream
from coview.embeddings.table import EmbeddingTable
from coview.embeddings.table_schema import PREFIX
from coview.evaluation import Subject
from coview.evaluation.feature_cache import network_digest

FINGERPRINT, SOURCE, OPENED = f"{PREFIX}fingerprint", f"{PREFIX}source", f"{PREFIX}opened"
"""The metadata of a table: of which images it is, by their pixels and by where they lie, and the
options that opened them."""
NOT_KNOWN = json.dumps(None)
"""The source of images in memory."""
LONG = 1 << 20
"""Characters of a source above which a table holds a hash of it: Parquet's readers refuse metadata
of some 100 MB, and a list of paths is in it four times."""
Rows = npt.NDArray[np.int64]
Block = dict[str, Any]
"""Columns of some rows: "row" is their place in the stream; a picture is an item of a list."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What is embedded, and how: the networks of ``subject`` are on ``device``.

    ``images``: the table has a thumbnail of every image.
    """

    subject: Subject
    stream: ImageStream
    layers: tuple[str, ...]
    device: torch.device | str = "cpu"
    images: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def listing(self) -> str:
        """A hash of everything that the rows of the table come from, but for the network."""
        stream = self.stream
        labels = b"" if stream.labels is None else stream.labels.tobytes()
        parts = [stream.listing.stamp, digest(stream.rows.tobytes()), stream.decoding,
                 digest(labels), *stream.class_names]  # fmt: skip
        return digest("\n".join(parts).encode())

    @property
    def all_metadata(self) -> dict[str, str]:
        """The metadata of a table, but for what is known at its end."""
        subject, stream = self.subject, self.stream
        head = {} if subject.head is None else {"head": weights_fingerprint(subject.head)}
        own = {
            "encoder": weights_fingerprint(subject.encoder), **head, "network": self.network,
            "view": json.dumps(encode(subject.view)), "decoding": stream.decoding,
            "listing": self.listing, "versions": f"coview {VERSION}, torch {torch.__version__}",
            "device": torch.device(self.device).type,
        }  # fmt: skip
        return {**self.metadata, **{f"{PREFIX}{name}": text for name, text in own.items()}}

    @cached_property
    def network(self) -> str:
        return network_of(self.subject)


def network_of(subject: Subject) -> str:
    """What determines the vectors of a decoded image: the networks and the view."""
    return digest(json.dumps([network_digest(subject), encode(subject.view)]).encode())


def known_table(path: Path, network: str) -> EmbeddingTable | None:
    """The table in ``path``, if it is whole, of ``network``, and its rows are as they were made."""
    if not exists(path):
        return None
    try:
        table = EmbeddingTable.open(path)
        is_ours = table.metadata.get(f"{PREFIX}network") == network
        return table if is_ours and table.fingerprint == table.metadata[FINGERPRINT] else None
    except (CoviewError, KeyError):
        return None


def tables_beside(path: Path | None, folder: Path, job: Job) -> list[EmbeddingTable]:
    """The other tables in ``folder`` of the images of ``job`` by its network, of all or of some."""
    places = tables_of(folder, job.metadata.get(SOURCE, NOT_KNOWN))
    tables = [known_table(place, job.network) for place in places if place != path]
    return [table for table in tables if table is not None]


def source_text(data: Any) -> str:
    """The source of ``data`` as the metadata of a table names it.

    >>> source_text("scenes"), source_text([[0]])
    ('"scenes"', 'null')
    """
    source = source_of(data)
    text = json.dumps(source)
    if len(text) <= LONG or source is None:
        return text
    return json.dumps({"paths": len(source), "hash": digest(text.encode())})


def opened_text(spec: DataSpec) -> str:
    """What opens images, as the metadata of a table say it: without a long list of paths, which
    the rows of the table have."""
    is_long = len(json.dumps(spec.source)) > LONG
    return json.dumps((replace(spec, source=None) if is_long else spec).to_json())


def images_of_table(table: EmbeddingTable) -> DataSpec:
    """How the images of a table were opened. Raises InvalidValue where it does not say so."""
    opened = table.metadata.get(OPENED)
    if opened is None:
        raise InvalidValue(
            f"{table.path or 'The table'} does not say how its images are opened; make it anew: "
            "coview embed RUN DATA"
        )
    spec = DataSpec.from_json(json.loads(opened))
    if isinstance(json.loads(table.metadata.get(SOURCE, NOT_KNOWN)), dict):  # a long list
        return replace(spec, source=tuple(str(path) for path in table.paths if path))
    return spec


def tables_of(folder: Path, source: str) -> list[Path]:
    """The tables in ``folder`` of the images of ``source``, as a table names it: of all or some."""
    if source == NOT_KNOWN:
        return []
    places = [folder / name for name in entries(folder) if name.endswith(".parquet")]
    return [place for place in places if recorded_source(place) == source]


def recorded_source(path: Path) -> str:
    """The source that a table of ours names; "" for any other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return ""
    return str(metadata.get(SOURCE.encode(), b"").decode())


class KnownRows:
    """The rows of tables of the same network that have all layers; of an id the first one counts.

    Indices are rows of all tables together.
    """

    def __init__(self, tables: Sequence[EmbeddingTable], job: Job) -> None:
        self.job = job
        self.tables = [t for t in tables if set(job.layers) <= set(t.layers)]
        self.ends = np.cumsum([0, *map(len, self.tables)], dtype=np.int64)
        columns = {name: [_int64(t, name) for t in self.tables] for name in
                   ("id", "pixel_hash", "width", "height")}  # fmt: skip
        columns["file_hash"] = [self._file_hashes(t) for t in self.tables]
        none = [np.zeros(0, np.int64)]
        self.columns = {name: np.concatenate(parts + none) for name, parts in columns.items()}
        self.ids, self.places = np.unique(self.columns["id"], return_index=True)

    def _file_hashes(self, table: EmbeddingTable) -> Rows:
        """Zeros where an equal file does not make an equal row."""
        decoding = table.metadata.get(f"{PREFIX}decoding")
        lacks_images = self.job.images and "image" not in table.column_names
        if decoding != self.job.stream.decoding or lacks_images:
            return np.zeros(len(table), np.int64)
        return _int64(table, "file_hash")

    def find(self, ids: Rows) -> Rows:
        """The index of each id, -1 where it is not known."""
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int64)
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[place] == ids, self.places[place], -1)

    def same_files(self, index: Rows, stamps: Rows | None) -> npt.NDArray[np.bool_]:
        """Which images come from an unchanged file."""
        if stamps is None or not len(self.ids):
            return np.zeros(len(index), dtype=bool)
        hashes = self.columns["file_hash"][index]
        same: npt.NDArray[np.bool_] = (index >= 0) & (hashes == stamps) & (hashes != 0)
        return same

    def same_pixels(self, index: Rows, part: ImageStore) -> npt.NDArray[np.bool_]:
        """Which decoded images have the pixels that the known rows are of."""
        if not len(self.ids):
            return np.zeros(len(index), dtype=bool)
        same: npt.NDArray[np.bool_] = index >= 0
        for name, values in (
            ("pixel_hash", part.content), ("width", part.widths), ("height", part.heights)
        ):  # fmt: skip
            same &= self.columns[name][index] == values
        return same

    def block(self, rows: Rows, index: Rows) -> Block:
        """All that is known of ``rows`` of the stream, from ``index``."""
        facts = {name: self.columns[name][index] for name in ("width", "height", "pixel_hash")}
        names = [*self.job.layers, *(["image"] if self.job.images else [])]
        return {"row": rows, **facts, **self.values(index, names)}

    def values(self, index: Rows, names: Sequence[str]) -> Block:
        """Vectors and pictures of the rows ``index``."""
        block: Block = {}
        tables = np.searchsorted(self.ends, index, side="right") - 1
        pieces, order = [], []
        for number in np.unique(tables).tolist():
            chosen = np.flatnonzero(tables == number)
            pieces.append(self.tables[number].take(index[chosen] - self.ends[number], names))
            order.append(chosen)
        back = np.argsort(np.concatenate(order), kind="stable")
        for name in names:
            columns = [piece.column(name) for piece in pieces]
            if name == "image":
                images = [image for column in columns for image in column.to_pylist()]
                block[name] = [images[place] for place in back.tolist()]
            else:
                block[name] = np.concatenate([_matrix(column) for column in columns])[back]
        return block


def part_of(block: Block, rows: npt.NDArray[Any]) -> Block:
    """Some rows of a block, by a mask or in an order."""
    places = np.flatnonzero(rows) if rows.dtype == bool else rows
    return {
        name: [values[place] for place in places.tolist()]
        if isinstance(values, list)
        else values[places]
        for name, values in block.items()
    }


def joined(blocks: Sequence[Block]) -> Block:
    """The rows of several blocks, in ascending order."""
    columns: Block = {}
    for name, first in blocks[0].items():
        parts = [block[name] for block in blocks]
        is_list = isinstance(first, list)
        columns[name] = (
            [value for part in parts for value in part] if is_list else np.concatenate(parts)
        )
    return part_of(columns, np.argsort(columns["row"], kind="stable"))


def columns_of(job: Job, block: Block) -> Block:
    """A block with the columns that the stream knows, as a table's writer takes them."""
    stream, rows = job.stream, block["row"]
    blank = np.zeros(len(rows), np.int64)
    labels, stamps = stream.labels, stream.stamps
    return {
        **block,
        "id": stream.ids[rows], "name": [stream.name(row) for row in rows.tolist()],
        "path": [stream.path(row) for row in rows.tolist()],
        "label": blank - 1 if labels is None else labels[rows],
        "file_hash": blank if stamps is None else stamps[rows],
    }  # fmt: skip


def _matrix(column: Any) -> npt.NDArray[np.float32]:
    vectors = column.combine_chunks()
    width = vectors.type.list_size
    values: npt.NDArray[np.float32] = vectors.flatten().to_numpy().reshape(-1, width)
    return values


def _int64(table: EmbeddingTable, name: str) -> Rows:
    return np.asarray(table.column(name), dtype=np.int64)
