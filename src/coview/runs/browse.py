"""A page over all images of a data set, with the vectors of a trained network."""

from __future__ import annotations

import dataclasses
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coview.browsing import Annotations, BrowseServer, Collection, write_page
from coview.browsing.annotations import ENDINGS
from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.core.options import takes
from coview.core.paths import local_path
from coview.core.places import output_file
from coview.core.progress import output, say
from coview.core.user_code import import_files
from coview.data.spec import DataSpec, name_of
from coview.evaluation import Subject, extract
from coview.options import BrowseOptions, DataOptions
from coview.runs.browse_facets import known_facets
from coview.runs.data import say_source
from coview.runs.load import at_step, load_subject
from coview.runs.run import Run
from coview.runs.transform import one_image
from coview.training import choose_device


@takes(BrowseOptions)
def browse(options: BrowseOptions) -> BrowseServer | Path:
    """A page over all images of ``data``, by default those of the run.

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
    out = None if options.out is None else output_file(options.out, (".html",))
    if not 0 <= options.port < 2**16:
        raise InvalidValue(f"`port` is {options.port}; expected 0, for a free one, to 65535.")
    tags = options.tags and _tags_file(options.tags)
    device = choose_device(options.device)
    subject = load_subject(options.run, options.checkpoint)
    for module in (subject.encoder, subject.head):
        if module is not None:
            module.to(device)
    spec, data = _images(options, subject.view.size)
    store = spec.open(data)
    say_source(store)
    name = at_step(name_of(options.data if options.data is not None else spec.source),
                   options.checkpoint)  # fmt: skip
    collection = _collection(options, name, subject, store, device)
    if out is not None:
        write_page(collection, out)
        say(f"Page: {out}")
        if options.open:
            webbrowser.open(out.resolve().as_uri())
        return out
    annotations = Annotations(
        tags or _tags_file(local_path(options.run) / "tags" / f"{name}.csv"),
        ids=store.ids, names=store.names, paths=collection.paths,
    )  # fmt: skip
    server = BrowseServer(collection, annotations, port=options.port)
    say(f"{len(store):,} images: {server.address}")
    say(f"Tags and labels: {annotations.path}. Ctrl-C ends.")
    if options.open:
        webbrowser.open(server.address)
    return server


def _images(options: BrowseOptions, size: int) -> tuple[DataSpec, Any]:
    """What opens the images, and what stands in for a source in memory."""
    if options.data is not None:
        return DataSpec.of(options.data, options, size=size), options.data
    given = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(DataOptions)
        if getattr(options, field.name) != field.default
    }
    return replace(Run.open(options.run).data.images, **given), None


def _tags_file(path: Path) -> Path:
    try:
        return output_file(path, ENDINGS)
    except InvalidValue as error:
        raise InvalidValue(str(error).replace("`out`", "`tags`")) from error


def _collection(
    options: BrowseOptions, name: str, subject: Subject, store: ImageStore, device: Any
) -> Collection:
    features = extract(subject, store, device=device, layers=(options.layer,), label="Embedding")
    vectors = features.layers[options.layer].numpy()

    def encode(content: bytes, file: str) -> Any:
        image = one_image(content, file, subject.view.size)
        with output(quiet=True):
            found = extract(subject, image, device=device, layers=(options.layer,))
        return found.layers[options.layer][0].numpy()

    return Collection(
        title=name, store=store, paths=_paths(store), points=_points(vectors), vectors=vectors,
        facets=known_facets(options.run, store, {}), encode=encode,
    )  # fmt: skip


def _paths(store: ImageStore) -> list[Path | None]:
    places = [Path(store.source) / name for name in store.names]
    return [place if place.is_file() else None for place in places]


def _points(vectors: Any) -> Any:
    import torch

    from coview.embeddings.map import MIN_ROWS, tsne

    if len(vectors) < MIN_ROWS:
        return np.full((len(vectors), 2), 0.5, np.float32)
    return tsne(torch.from_numpy(vectors)).numpy()
