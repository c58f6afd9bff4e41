"""Images as vectors."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coview.core.errors import CoviewError, InvalidValue, StorageError
from coview.core.files import digest, exists, replacing
from coview.core.option_checks import check_options
from coview.core.options import build_options, takes
from coview.core.paths import local_path
from coview.core.places import output_file
from coview.core.progress import say
from coview.core.run_folder import RunFolder
from coview.core.user_code import import_files
from coview.data.spec import DataSpec, name_of, source_of
from coview.embeddings.table import EmbeddingTable
from coview.embeddings.table_formats import choose_format, write_as
from coview.options import DataOptions, EmbedOptions
from coview.runs.embed_job import (
    OPENED,
    SOURCE,
    Job,
    network_of,
    opened_text,
    recorded_source,
    source_text,
)
from coview.runs.embed_rows import update_table
from coview.runs.inputs import images_named
from coview.runs.load import at_step, load_subject, say_verdict
from coview.runs.protocols import words
from coview.runs.subjects import on_device
from coview.training import choose_device

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_ENDINGS = (".parquet",)


@takes(EmbedOptions)
def embed(options: EmbedOptions) -> EmbeddingTable:
    """The table of ``data``: a row an image with its name, path, label and one vector a layer.

    "h" is the encoder's output, "z" the head's; the export of a run has no head and so only "h".
    Rows are in the order of the images' names. The table is kept in RUN/embeddings/NAME.parquet, or
    in ``out``; a second call embeds only the images that are new or have changed. With ``limit`` or
    ``split`` the table has a name of its own, and that of all images stays as it is. A table of
    images in memory is kept nowhere unless ``out`` is given. With ``format`` npy or csv (or such an
    ending of ``out``) the vectors are written so as well.

    See :class:`coview.embeddings.EmbeddingTable`: `table["h"]` is an array of numpy [N, D],
    `table.to_arrow()` and `table.to_pandas()` are what they say.
    Raises RunError, InvalidValue, UnknownName, DataError, StorageError.

    >>> import coview
    >>> table = coview.embed("runs/scenes", "scenes", limit=4, layers="h,z")
    >>> len(table), table.layers, table["h"].shape
    (4, ('h', 'z'), (4, 64))
    """
    say_verdict(options.run)
    return update_vectors(options)


def update_vectors(
    options: EmbedOptions, require: Callable[[int], None] | None = None
) -> EmbeddingTable:
    """As :func:`embed`; says nothing of the run. ``require`` gets the number of images before any
    is embedded."""
    import_files(options.import_)
    layers = words(options.layers)
    if not layers:
        raise InvalidValue("`layers` is empty; expected h, z, or both separated by a comma.")
    out = options.out
    kind = choose_format(out, options.format, layers)
    data = images_named(options.data)
    job = _job(options, data, layers)
    if require is not None:
        require(len(job.stream))
    kept = _kept_file(options, data)
    folder = RunFolder(local_path(options.run)).embeddings_path
    if kind == "parquet":
        return update_table(job, out or kept, folder)
    if out is None:
        if kept is None:
            raise InvalidValue("`out` is missing: these images have no name for a file.")
        out = kept.with_suffix(f".{kind}")
    with tempfile.TemporaryDirectory() as temporary:
        table = update_table(job, kept or Path(temporary, "table.parquet"), folder)
        write_as(table, out, kind, layers)
    if options.out is None:
        say(f"The vectors as {kind}: {out}")
    return table


def embeddings_of(
    run: Any, data: Any, *, layers: Sequence[str] = ("h",), checkpoint: int | None = None,
    require: Callable[[int], None] | None = None, **options: Any,
) -> EmbeddingTable:  # fmt: skip
    """The table of ``data`` by ``run``, up to date: what search, map and others begin with.

    ``data`` may also be the file of such a table, or one that is open; it must be of the same
    network, and all of its images are taken. Else it is kept as :func:`embed` keeps it, whose
    options these are. ``require`` gets the number of images before any is embedded.

    >>> len(embeddings_of("runs/scenes", "scenes", limit=4))
    4
    """
    known = table_at(data)
    if known is None:
        chosen = {"layers": tuple(layers), "checkpoint": checkpoint, **options}
        given = build_options(EmbedOptions, {"run": run, "data": data, **chosen})
        check_options(given)
        return update_vectors(given, require)
    refuse_part(known, options)
    require_table_of(known, load_subject(run, checkpoint), run)
    for layer in layers:
        known.require_layer(layer)
    return known


def table_at(data: Any) -> EmbeddingTable | None:
    """The table that ``data`` is, or whose file it names; None for images."""
    if isinstance(data, EmbeddingTable):
        return data
    if isinstance(data, str | Path) and str(data).lower().endswith(".parquet"):
        path = local_path(data)
        if exists(path):
            try:
                return EmbeddingTable.open(path)
            except CoviewError:
                return None
    return None


def refuse_part(table: EmbeddingTable, options: Mapping[str, Any]) -> None:
    """Raise InvalidValue where ``options`` ask for some of the images of ``table``."""
    for name in ("limit", "split"):
        if options.get(name) is not None:
            raise InvalidValue(
                f"`{name}` has no effect on a table of vectors, which "
                f"{table.path or 'the table'} is. Leave it out, or give the images themselves."
            )


def require_table_of(table: EmbeddingTable, subject: Any, run: Any) -> None:
    """Raise InvalidValue where ``table`` was made by another network than ``subject``."""
    if table.metadata.get("coview.network") != network_of(subject):
        made_by = table.metadata.get("coview.run", "another")
        raise InvalidValue(
            f"{table.path or 'The table'} holds vectors of {made_by} and not those of {run}, whose "
            "weights are others; make a table with: coview embed RUN DATA"
        )


def _job(options: EmbedOptions, data: Any, layers: Sequence[str]) -> Job:
    subject = load_subject(options.run, options.checkpoint)
    subject.require_layers(layers)
    device = choose_device(options.device)
    subject = on_device(subject, device)
    spec = DataSpec.of(data, options, size=subject.view.size, needs_labels=None)
    return Job(
        subject=subject, stream=spec.stream(data), layers=tuple(layers), device=device,
        images=options.images, metadata={
            "coview.run": str(options.run),
            "coview.checkpoint": json.dumps(options.checkpoint),
            SOURCE: source_text(data), OPENED: opened_text(spec),
        },
    )  # fmt: skip


def _kept_file(options: EmbedOptions, data: Any) -> Path | None:
    """Where the table is kept; None of images in memory, and where nothing can be written."""
    if source_of(data) is None:
        return None
    folder = RunFolder(local_path(options.run)).embeddings_path
    path = table_file(folder, data, options, options.checkpoint)
    try:
        return output_file(path, TABLE_ENDINGS)
    except StorageError:
        say(f"The table is not kept: {path.parent} cannot be written.")
        return None


def origin_of_table(
    data: Any, fingerprint: str, left_out: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """The metadata of a table that say which images it is of, and which were left out."""
    return {
        SOURCE: source_text(data),
        "coview.fingerprint": fingerprint,
        "coview.left_out": json.dumps([list(entry) for entry in left_out]),
    }


def write_table(table: pa.Table, path: Path) -> None:
    """The table as a file, .csv or else Parquet, whole or not at all. Says where it replaces
    another."""
    import pyarrow.parquet as pq
    from pyarrow import csv

    if exists(path):
        say(f"{path} is there already and is replaced.")
    with replacing(path) as temporary:
        if path.suffix.lower() == ".csv":
            csv.write_csv(table, temporary)
        else:
            pq.write_table(table, temporary)


def part_name(data: Any, options: DataOptions) -> str:
    """The name of ``data`` and of which of its images ``options`` take.

    >>> part_name("more/2024", DataOptions(split="val", limit=100))
    '2024-val-limit-100'
    """
    part = [name_of(data), *([] if options.split is None else [options.split])]
    return "-".join([*part, *([] if options.limit is None else [f"limit-{options.limit}"])])


def table_file(
    folder: Path, data: Any, options: DataOptions, checkpoint: int | None = None
) -> Path:
    """Where in ``folder`` a command writes its table of ``data`` unless told otherwise.

    The name says which of the images it is of. A file of this name that is of other images stays:
    the new one has a hash of its source.

    >>> table_file(Path("photos/embeddings"), "more/2024", DataOptions()).as_posix()
    'photos/embeddings/2024.parquet'
    >>> table_file(Path("photos/embeddings"), "more/2024", DataOptions(limit=100)).name
    '2024-limit-100.parquet'
    """
    name, source = at_step(part_name(data, options), checkpoint), source_text(data)
    path = folder / f"{name}.parquet"
    if not exists(path) or recorded_source(path) == source:
        return path
    return path.with_name(f"{name}-{digest(source.encode())[:8]}.parquet")
