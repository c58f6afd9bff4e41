"""Images as vectors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coview.core.files import digest, exists, write_bytes
from coview.core.images import ImageStore
from coview.core.options import takes
from coview.core.paths import local_path
from coview.core.places import output_file
from coview.core.progress import say
from coview.core.user_code import import_files
from coview.data.spec import DataSpec, name_of, source_of
from coview.evaluation import extract
from coview.options import EmbedOptions
from coview.runs.data import say_source
from coview.runs.load import at_step, load_subject
from coview.runs.protocols import words
from coview.training import choose_device

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_ENDINGS = (".parquet",)
SOURCE = "coview.source"
"""The metadata of a table that name the images that it is of."""


@takes(EmbedOptions)
def embed(options: EmbedOptions) -> pa.Table:
    """A table of ``data`` with the columns id, name, label (-1 unknown) and one vector a layer.

    "h" is the encoder's output, "z" the head's; the export of a run has no head and so only "h".
    Written as Parquet to ``out`` where given. Rows are in the order of the images' names.

    >>> import coview
    >>> coview.embed("runs/scenes", "scenes", limit=4, layers="h,z").column_names
    ['id', 'name', 'label', 'h', 'z']
    """
    import pyarrow as pa

    import_files(options.import_)
    out = None if options.out is None else output_file(options.out, TABLE_ENDINGS)
    device = choose_device(options.device)
    subject = load_subject(options.run, options.checkpoint)
    spec = DataSpec.of(options.data, options, size=subject.view.size)
    store = spec.open(options.data)
    say_source(store)
    layers = words(options.layers)
    for module in (subject.encoder, subject.head):
        if module is not None:
            module.to(device)
    features = extract(subject, store, device=device, layers=layers, label="Embedding")
    columns: dict[str, Any] = {
        "id": pa.array(store.ids),
        "name": pa.array(list(store.names)),
        "label": pa.array([-1] * len(store) if store.labels is None else store.labels),
    }
    for layer in layers:
        values = features.layers[layer].contiguous()
        flat = pa.array(values.numpy().reshape(-1))
        columns[layer] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    metadata = {
        "coview.run": str(options.run),
        "coview.checkpoint": json.dumps(options.checkpoint),
        "coview.class_names": json.dumps(list(store.class_names)),
        **origin_of_table(store, options.data),
    }
    table = pa.table(columns).replace_schema_metadata(metadata)
    if out is not None:
        write_table(table, out)
    return table


def origin_of_table(store: ImageStore, data: Any) -> dict[str, str]:
    """The metadata of a table that say which images it is of, and which were left out."""
    return {
        SOURCE: json.dumps(source_of(data)),
        "coview.fingerprint": store.fingerprint,
        "coview.left_out": json.dumps([list(entry) for entry in store.quarantine]),
    }


def write_table(table: pa.Table, path: Path) -> None:
    """The table as a Parquet file, whole or not at all. Says where it replaces another."""
    import pyarrow.parquet as pq

    if exists(path):
        say(f"{path} is there already and is replaced.")
    sink = io.BytesIO()
    pq.write_table(table, sink)
    write_bytes(path, sink.getvalue())


def table_file(folder: str | Path, kind: str, data: Any, checkpoint: int | None = None) -> Path:
    """Where a command writes its table of ``data`` unless told otherwise.

    A file of this name that is of other images stays: the new one has a hash of its source.

    >>> table_file("runs/photos", "embeddings", "more/2024").as_posix()
    'runs/photos/embeddings/2024.parquet'
    """
    name, source = at_step(name_of(data), checkpoint), json.dumps(source_of(data))
    path = local_path(folder) / kind / f"{name}.parquet"
    if not exists(path) or _source_in(path) == source:
        return path
    return path.with_name(f"{name}-{digest(source.encode())[:8]}.parquet")


def _source_in(path: Path) -> str:
    """The source that a table of ours names; "" for any other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return ""
    return str(metadata.get(SOURCE.encode(), b"").decode())
