"""Corrupted test images: drawn on the fly, or read from the published files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.core.files import entries
from coview.core.images import ImageStore, store_from_arrays
from coview.core.rng import CORRUPTED_IMAGES, Stream, drawn_rows
from coview.data.held_out import relabel
from coview.data.sources import open_images
from coview.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt, scale_of
from coview.views import ViewPlan, eval_view, views_of

MIN_SIDE = 16
RENDERED_AT_ONCE = 256
FILE_NAMES = {"elastic": "elastic_transform", "jpeg": "jpeg_compression"}
"""Published names of files and folders, where ours are shorter."""
LABELS_FILE = "labels.npy"
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
"""What the labels of CIFAR-10-C mean, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CorruptedImages:
    """The clean images, and the same images under every corruption and severity.

    ``load`` maps (corruption, severity) to a labeled store in one order for all of them.
    ``paired``: the clean images are the same ones, in the same order. ``published``: the corrupted
    ones were read from files.
    """

    clean: ImageStore
    load: Callable[[str, int], ImageStore]
    names: tuple[str, ...]
    card: dict[str, Any]
    paired: bool = True
    published: bool = False


def corrupted_images(
    test: ImageStore, *, folder: Path | None, limit: int | None, size: int, seed: int
) -> CorruptedImages:
    """Corrupted images of the labeled ``test`` part, at most ``limit``, chosen by seed and id.

    From the published files in ``folder``, else drawn at ``size`` pixels or the images' own size if
    that is smaller. Raises DataError for a folder of another layout.
    """
    if folder is None:
        return _drawn(test, limit, size, seed)
    if (folder / LABELS_FILE).is_file():
        return _from_arrays(test, folder, limit, seed)
    return _from_folders(test, folder, limit, seed)


def _chosen(ids: npt.NDArray[np.int64], limit: int | None, seed: int) -> npt.NDArray[np.int64]:
    """Ascending rows of at most ``limit`` images."""
    return drawn_rows(seed, Stream.PROBE, ids, limit, draw_index=CORRUPTED_IMAGES)


def _how_many(used: int, total: int) -> str:
    return f"all {total:,}" if used == total else f"{used:,} of {total:,}, chosen by seed and id"


def _drawn(test: ImageStore, limit: int | None, size: int, seed: int) -> CorruptedImages:
    rows = _chosen(test.ids, limit, seed)
    chosen = test.subset(rows)
    own = int(np.minimum(chosen.heights, chosen.widths).max())
    side = max(MIN_SIDE, min(size, own))
    pixels, scale = central_squares(chosen, side), scale_of(side)

    def load(name: str, severity: int) -> ImageStore:
        return _like(chosen, corrupt(pixels, chosen.ids, name, severity, seed=seed))

    card = {
        "images": _how_many(len(chosen), len(test)),
        "corruptions": f"drawn on {side} pixels with the strengths of {scale.name}",
        "frost": "a drawn texture; the published one comes from photographs, so that errors under "
        "frost are not comparable with published ones",
    }
    return CorruptedImages(
        clean=_like(chosen, pixels), load=load, names=tuple(CORRUPTIONS), card=card
    )


def central_squares(store: ImageStore, side: int) -> npt.NDArray[np.uint8]:
    """The central square of every image, resized to ``side``: uint8 [N, side, side, 3]."""
    plan = ViewPlan(views=(eval_view(side),))
    parts = []
    for start in range(0, len(store), RENDERED_AT_ONCE):
        rows = np.arange(start, min(start + RENDERED_AT_ONCE, len(store)), dtype=np.int64)
        (views,) = views_of(store, rows, plan, seed=0, epoch=0)
        parts.append((views * 255).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def _like(store: ImageStore, pixels: npt.NDArray[np.uint8]) -> ImageStore:
    """Other pixels of the images of ``store``, with their ids and labels."""
    made = store_from_arrays(
        pixels, labels=store.labels, class_names=store.class_names, names=store.names,
        source=store.source,
    )  # fmt: skip
    return replace(made, ids=store.ids)


def _from_arrays(test: ImageStore, folder: Path, limit: int | None, seed: int) -> CorruptedImages:
    """CIFAR-10-C: one array for each corruption, the five severities one after the other."""
    labels = _read_array(folder / LABELS_FILE).astype(np.int64)
    count = len(labels) // len(SEVERITIES)
    if labels.ndim != 1 or count == 0 or len(labels) % len(SEVERITIES):
        raise DataError(
            f"{folder / LABELS_FILE} has the shape {list(labels.shape)}; expected the labels of "
            "the images five times, once for each severity."
        )
    labels, paired = _numbered(labels[:count], test, folder / LABELS_FILE)
    names = tuple(name for name in CORRUPTIONS if (folder / _file_name(name)).is_file())
    _require_some(names, folder, _file_name("gaussian_noise"))
    ids = np.arange(count)
    rows = _chosen(test.ids if paired else ids, limit, seed)

    def load(name: str, severity: int) -> ImageStore:
        path = folder / _file_name(name)
        images = _read_array(path)
        square = images.ndim == 4 and images.dtype == np.uint8 and images.shape[3] == 3
        if not square or len(images) != count * len(SEVERITIES):
            raise DataError(
                f"{path} holds {images.dtype} {list(images.shape)}; expected uint8 "
                f"[{count * len(SEVERITIES)}, S, S, 3], as {LABELS_FILE} has labels."
            )
        pixels = np.ascontiguousarray(images[(severity - 1) * count + rows])
        store = store_from_arrays(
            pixels, labels=labels[rows], class_names=test.class_names, source=str(path)
        )
        return replace(store, ids=ids[rows])

    clean = test.subset(rows if paired else _chosen(test.ids, limit, seed))
    images = _how_many(len(rows), count)
    return _published(clean, load, names, folder, images, paired=paired)


def _numbered(
    published: npt.NDArray[np.int64], test: ImageStore, path: Path
) -> tuple[npt.NDArray[np.int64], bool]:
    """The labels of ``published`` files, int64 [N], in the numbers of ``test``, and whether their
    images are those of ``test``.

    They are where there is one label of ``test`` for each published one at every place. Else the
    names of classes say what a number means: CIFAR-10's, or the numbers themselves; without names
    the numbers are compared. Raises DataError for other names.
    """
    assert test.labels is not None
    if len(test) == len(published):
        pairs = np.unique(np.stack([published, test.labels]), axis=1)
        if len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1])):
            return test.labels, True
    place = {name: number for number, name in enumerate(test.class_names)}
    used = [int(label) for label in np.unique(published)]
    number_of = {label: place.get(str(label), -1) for label in used}
    if not place:
        number_of = {label: label for label in used}
    elif set(CIFAR10_CLASSES) <= place.keys() and used[-1] < len(CIFAR10_CLASSES):
        number_of = {label: place[CIFAR10_CLASSES[label]] for label in used}
    elif -1 in number_of.values():
        raise DataError(
            f"{path} has numbers for classes, and which they are of {test.source or 'the data'} is "
            "not known: its images are not those of the files in their order, and its classes have "
            "other names. Give the published test images in their order as `test`, such as "
            "cifar10 by its name, or name the classes as CIFAR-10 does or by their numbers from 0."
        )
    labels = np.array([number_of[int(label)] for label in published], np.int64)
    if not np.isin(labels, test.labels).all():
        raise DataError(
            f"{path} has labels that no test image has; give the corrupted images of the same data "
            "set."
        )
    return labels, False


def _from_folders(test: ImageStore, folder: Path, limit: int | None, seed: int) -> CorruptedImages:
    """ImageNet-C: corruption/severity/class/file, perhaps below folders such as "noise"."""
    assert test.labels is not None
    places = {name: _find(folder, FILE_NAMES.get(name, name)) for name in CORRUPTIONS}
    found = {name: place for name, place in places.items() if place is not None}
    _require_some(tuple(found), folder, "gaussian_noise/1/CLASS/IMAGE.JPEG")
    known: list[npt.NDArray[np.int64]] = []

    def load(name: str, severity: int) -> ImageStore:
        place = found[name] / str(severity)
        if not place.is_dir():
            raise DataError(f"{place} is missing; expected five severities, 1 to 5.")
        store = open_images(place, labels_from="folders", limit=limit, seed=seed)
        store = relabel(store, test.class_names)
        known.append(store.ids)
        if not np.array_equal(known[0], store.ids):
            raise DataError(
                f"{place} holds other images than {found[next(iter(found))] / '1'}; expected "
                "the same files for every corruption and severity."
            )
        return store

    first = load(next(iter(found)), 1)
    row_of = {Path(name).name: row for row, name in enumerate(test.names)}
    rows = [row_of.get(Path(name).name, -1) for name in first.names]
    assert first.labels is not None
    paired = min(rows) >= 0 and np.array_equal(test.labels[rows], first.labels)
    clean = test.subset(np.array(rows) if paired else _chosen(test.ids, limit, seed))
    images = f"{len(first):,} of each folder" + (", chosen by seed and id" if limit else "")
    return _published(clean, load, tuple(found), folder, images, paired=paired)


def _published(
    clean: ImageStore, load: Callable[[str, int], ImageStore], names: tuple[str, ...],
    folder: Path, images: str, *, paired: bool,
) -> CorruptedImages:  # fmt: skip
    missing = [name for name in CORRUPTIONS if name not in names]
    card = {
        "images": images,
        "corruptions": f"read from {folder}"
        + (f"; without {', '.join(missing)}, which it lacks" if missing else ""),
    }
    if not paired:
        card["clean images"] = (
            f"{len(clean):,} of the test part, which are not the images of the corrupted files in "
            "their order; intervals of rises of the error leave the choice of clean images out"
        )
    return CorruptedImages(
        clean=clean, load=load, names=names, card=card, paired=paired, published=True
    )


def _file_name(name: str) -> str:
    return f"{FILE_NAMES.get(name, name)}.npy"


def _find(folder: Path, name: str) -> Path | None:
    """The folder ``name`` in ``folder`` or one level below."""
    places = [folder / name, *(folder / group / name for group in entries(folder))]
    return next((place for place in places if place.is_dir()), None)


def _require_some(names: tuple[str, ...], folder: Path, example: str) -> None:
    if not names:
        raise DataError(
            f"{folder} holds no corrupted images; expected {example} and its like, as CIFAR-10-C "
            "(arrays) and ImageNet-C (folders) have them."
        )


def _read_array(path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no array of numpy ({error}); download it again.") from error
    return array
