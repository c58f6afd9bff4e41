"""Images as vectors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coview.core.files import write_bytes
from coview.core.options import takes
from coview.core.paths import local_path
from coview.core.progress import say
from coview.data.spec import DataSpec, name_of
from coview.evaluation import extract
from coview.options import EmbedOptions
from coview.runs.evaluate import words
from coview.runs.load import at_step, load_subject
from coview.training import choose_device

if TYPE_CHECKING:
    import pyarrow as pa


@takes(EmbedOptions)
def embed(options: EmbedOptions) -> pa.Table:
    """A table of ``data`` with the columns id, name, label (-1 unknown) and one vector a layer.

    "h" is the encoder's output, "z" the head's; an exported encoder has no head and so only "h".
    Written as Parquet to ``out`` where given. Rows are in the order of the images' names.

    >>> import coview
    >>> coview.embed("runs/scenes", "scenes", limit=4, layers="h,z").column_names
    ['id', 'name', 'label', 'h', 'z']
    """
    import pyarrow as pa

    device = choose_device(options.device)
    subject = load_subject(options.run, options.checkpoint)
    spec = DataSpec.of(options.data, options, size=subject.view.size)
    store = spec.open(options.data)
    for note in store.notes:
        say(note, detail=True)
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
    }
    table = pa.table(columns).replace_schema_metadata(metadata)
    if options.out is not None:
        write_table(table, options.out)
    return table


def write_table(table: pa.Table, path: Path) -> None:
    """The table as a Parquet file, whole or not at all."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink)
    write_bytes(path, sink.getvalue())


def table_file(folder: str | Path, kind: str, data: Any, checkpoint: int | None = None) -> Path:
    """Where a command writes its table of ``data`` unless told otherwise.

    >>> table_file("runs/photos", "embeddings", "more/2024").as_posix()
    'runs/photos/embeddings/2024.parquet'
    """
    return local_path(folder) / kind / f"{at_step(name_of(data), checkpoint)}.parquet"
