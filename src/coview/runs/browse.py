"""A page over all images of a data set, with the vectors of a trained network."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coview.browsing import Annotations, BrowseServer, Collection, write_page
from coview.browsing.collection import Encode, Floats
from coview.core.errors import DataError, InvalidValue
from coview.core.images import ImageStore
from coview.core.options import takes
from coview.core.paths import local_path
from coview.core.places import output_file
from coview.core.progress import output, say
from coview.core.run_folder import RunFolder
from coview.core.text import plural
from coview.core.user_code import import_files
from coview.data.spec import DataSpec, data_settings, name_of
from coview.embeddings.table import EmbeddingTable
from coview.evaluation import Subject, extract
from coview.options import BrowseOptions
from coview.runs.browse_columns import with_copies, with_map
from coview.runs.browse_facets import known_facets
from coview.runs.data import say_source
from coview.runs.duplicates import GROUP
from coview.runs.embed import embeddings_of, table_at
from coview.runs.embed_job import images_of_table
from coview.runs.load import at_step, load_subject, say_verdict
from coview.runs.own_images import own_images, source_in, with_given
from coview.runs.subjects import on_device
from coview.runs.transform import one_image
from coview.training import choose_device


@takes(BrowseOptions)
def browse(options: BrowseOptions) -> BrowseServer | Path:
    """A page over all images of ``data``, by default those of the run.

    Vectors, map, clusters and outliers are columns of the table that :func:`coview.embed` keeps;
    what it lacks is computed and kept there. ``data`` may be the file of such a table as well.

    Returns a running server: ``address`` is to be opened in a browser on this machine, ``wait()``
    returns at Ctrl-C, ``close()`` ends it, and so does the end of a ``with`` block. With ``out``
    the page is one HTML file, and its path is returned.

    Tags and labels are written at once to ``tags``, by default RUN/tags/NAME.csv, and are there at
    the next start. The file is a table of paths with labels, which other verbs take for their data.
    Raises RunError, DataError, InvalidValue.

    >>> import coview
    >>> with coview.browse("runs/scenes", "scenes", limit=20) as server:
    ...     server.address.startswith("http://127.0.0.1:")
    True
    >>> coview.browse("runs/scenes", "scenes", limit=20, out="page.html").name
    'page.html'
    """
    import_files(options.import_)
    out = options.out
    if not 0 <= options.port < 2**16:
        raise InvalidValue(f"`port` is {options.port}; expected 0, for a free one, to 65535.")
    if out is not None and options.tags is not None:
        raise InvalidValue(
            "`tags` has no effect with `out`: a page in one file has no table of tags. "
            "Leave out one of the two."
        )
    say_verdict(options.run)
    subject = load_subject(options.run, options.checkpoint)
    images = _images(options, subject)
    table = with_map(options, images.table)
    if options.near_copies:
        table = with_copies(table, images.store, options.layer)
    elif GROUP not in table.column_names:
        say("Copies: those of equal pixels; `near_copies` finds others too.", detail=True)
    collection = Collection(
        title=images.name, store=images.store, paths=table.paths,
        points=np.stack([table["x"], table["y"]], axis=1).astype(np.float32),
        vectors=table.vectors(options.layer), encode=_encoder(options, subject),
        facets=known_facets(options.run, images.store, table),
        scores=_scores(table),
    )  # fmt: skip
    if out is not None:
        write_page(collection, out)
        say(f"Page: {out}")
        if options.open:
            webbrowser.open(out.resolve().as_uri())
        return out
    annotations = Annotations(
        options.tags or _own_tags(options.run, images.name),
        ids=images.store.ids, names=images.store.names, paths=collection.paths,
    )  # fmt: skip
    server = BrowseServer(collection, annotations, port=options.port)
    say(f"{plural(len(collection), 'image')}: {server.address}")
    say(f"Tags and labels: {annotations.path}")
    if options.open:
        webbrowser.open(server.address_once())
    return server


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Images:
    """The images of a page: what they are called, their vectors, and their pixels row by row."""

    name: str
    table: EmbeddingTable
    store: ImageStore


def _images(options: BrowseOptions, subject: Subject) -> _Images:
    spec, data = _source(options, subject.view.size)
    known = table_at(options.data)
    table = embeddings_of(
        options.run, data if known is None else known, layers=(options.layer,),
        checkpoint=options.checkpoint, device=options.device, import_=options.import_,
        **data_settings(spec if known is None else options),
    )  # fmt: skip
    name = name_of(spec.source if options.data is None else options.data)
    return _Images(
        name=at_step(name, options.checkpoint), table=table, store=_store(spec, data, table)
    )


def _source(options: BrowseOptions, size: int) -> tuple[DataSpec, Any]:
    """What opens the images, and the images themselves or their source."""
    data = options.data
    if (table := table_at(data)) is not None:
        spec = with_given(images_of_table(table), options)
        if spec.source is None:
            raise InvalidValue(f"{options.data} is of images in memory; give these as `data`.")
    elif data is not None:
        data = list(data) if isinstance(data, tuple) else data
        return DataSpec.of(data, options, size=size, needs_labels=None), data
    else:
        spec = own_images(options.run, options, "data")
    return spec, source_in(spec)


def _store(spec: DataSpec, data: Any, table: EmbeddingTable) -> ImageStore:
    """The images of the table in its order; files are decoded when they are asked for.

    Raises DataError where images of the table are not there any more.
    """
    stream = spec.stream(data)
    if stream.listing.path_of is None:
        store = spec.open(data)
        say_source(store)
        return store.subset(_rows_of(table, store.names, store.source))
    names = [stream.name(row) for row in range(len(stream))]
    heights, widths = (np.asarray(table[side]) for side in ("height", "width"))
    rows = _rows_of(table, names, stream.source)
    return stream.store(rows, heights, widths, np.asarray(table["pixel_hash"]))


def _rows_of(table: EmbeddingTable, names: Any, source: str) -> Any:
    row = {name: number for number, name in enumerate(names)}
    missing = [name for name in table.names if name not in row]
    if missing:
        raise DataError(
            f"{source} lacks {plural(len(missing), 'image')} of the table, such as {missing[0]}. "
            "Give the images that it was made of, or make it anew: coview embed RUN DATA"
        )
    return np.array([row[name] for name in table.names], dtype=np.int64)


def _encoder(options: BrowseOptions, subject: Subject) -> Encode:
    """What turns an image file into a vector, as embedding did for the others."""
    device = choose_device(options.device)
    subject = on_device(subject, device)

    def encode(content: bytes, name: str) -> Floats:
        image = one_image(content, name, subject.view.size)
        with output(quiet=True):
            features = extract(subject, image, device=device, layers=(options.layer,))
        vector: Floats = features.layers[options.layer][0].numpy()
        return vector

    return encode


def _scores(table: EmbeddingTable) -> dict[str, Floats]:
    outlier = table.column("outlier")
    return {} if outlier is None else {"outlier": np.asarray(outlier, dtype=np.float32)}


def _own_tags(run: Path, name: str) -> Path:
    return output_file(RunFolder(local_path(run)).tags_path / f"{name}.csv", (".csv",), name="tags")
