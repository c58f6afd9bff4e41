"""A collection of drawn images whose points, vectors and facets are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from coview.browsing import Annotations, Collection, Facet
from coview.core.images import store_from_arrays

CLASSES = ("circle", "cross", "<b>ring</b>")


def drawn(count: int = 90, *, folder: Path | None = None, encode: bool = True) -> Collection:
    """Three classes at three corners of the map; row k's vector points to its class and to k.

    With ``folder`` the images are PNG files there. ``encode`` gives the vector of row 4 for any
    image file.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 3
    pixels = generator.integers(0, 90, (count, 24, 32, 3), dtype=np.uint8)
    pixels[np.arange(count), :, :, labels] += 150
    centers = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]])
    points = centers[labels] + generator.uniform(-0.1, 0.1, (count, 2))
    vectors = np.eye(3)[labels] + 0.05 * generator.normal(size=(count, 3))
    names = [f"{CLASSES[k][:2].strip('<')}/{row:03d}.png" for row, k in enumerate(labels)]
    store = store_from_arrays(
        list(pixels), labels=labels, class_names=CLASSES, names=names, source="drawn"
    )
    paths: list[Path | None] = [None] * count
    if folder is not None:
        paths = [write_png(folder / name, image) for name, image in zip(names, pixels, strict=True)]
    marks = np.zeros(count, dtype=np.int32)
    marks[:4] = 1
    marks[2:6] |= 2
    vectors = vectors.astype(np.float32)
    return Collection(
        title="drawn", store=store, paths=paths, points=points.astype(np.float32),
        vectors=vectors, encode=(lambda content, name: vectors[4]) if encode else None,
        facets=(
            Facet(name="class", title="Class", values=CLASSES, codes=labels),
            Facet(name="verdict", title="Verdict", values=("wrong", "outlier"), codes=marks,
                  marks=True),
        ),
        scores={"outlier score": generator.random(count).astype(np.float32)},
    )  # fmt: skip


def annotations_of(collection: Collection, path: Path) -> Annotations:
    store = collection.store
    return Annotations(path, ids=store.ids, names=store.names, paths=collection.paths)


def write_png(path: Path, pixels: np.ndarray) -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
