"""The objects in images: boxes, classes and outlines, and the images that have them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.core.images import ImageStore

if TYPE_CHECKING:
    from PIL import Image

Rows = npt.NDArray[np.int64]
Outline = Any
"""What COCO's format calls a segmentation: polygons [[x, y, x, y, ...], ...], or an RLE
{"size": [height, width], "counts": [...] or text}; None where there is only a box."""

UNKNOWN = 255
"""The value of pixels in a label map that belong to no class (VOC's outlines)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Objects:
    """The M objects of N images. Those of image n are ``starts[n] : starts[n] + counts[n]``.

    Shapes: boxes float64 [M, 4], (x1, y1, x2, y2) in pixels of the annotated image; classes int64
    [M], places in the class names of the store; areas float64 [M], of the outline in square pixels,
    of the box where there is none; crowd, difficult bool [M]: objects that do not count in tests
    (crowds are not learned either); outlines of M objects, or () where none has one; starts, counts
    int64 [N]; heights, widths int64 [N] of the annotated images; numbers int64 [N], the image
    numbers of COCO's files; categories int64 [classes], COCO's numbers of the classes.
    """

    boxes: npt.NDArray[np.float64]
    classes: Rows
    areas: npt.NDArray[np.float64]
    crowd: npt.NDArray[np.bool_]
    difficult: npt.NDArray[np.bool_]
    outlines: Sequence[Outline]
    starts: Rows
    counts: Rows
    heights: Rows
    widths: Rows
    numbers: Rows
    categories: Rows

    def __len__(self) -> int:
        return len(self.starts)

    def of(self, row: int) -> slice:
        """The objects of an image, as a slice of ``boxes`` and the others."""
        return slice(int(self.starts[row]), int(self.starts[row] + self.counts[row]))

    def subset(self, rows: Rows) -> Objects:
        """Those of the given images, in that order; the objects themselves are shared."""
        names = ("starts", "counts", "heights", "widths", "numbers")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def places(self) -> Rows:
        """The places of the objects of these images in ``boxes`` and the others, int64 [total]."""
        parts = [np.arange(part.start, part.stop) for part in map(self.of, range(len(self)))]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    @property
    def total(self) -> int:
        """The number of objects in these images."""
        return int(self.counts.sum())

    def fingerprint(self) -> bytes:
        """Of boxes, classes and marks, in the order of the images."""
        hasher = hashlib.blake2b(digest_size=16)
        rows = self.places()
        for array in (self.counts, self.boxes[rows], self.classes[rows], self.crowd[rows]):
            hasher.update(np.ascontiguousarray(array).tobytes())
        for row in rows if self.outlines else ():
            hasher.update(repr(self.outlines[int(row)]).encode())
        return hasher.digest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelMaps:
    """The class of every pixel of N images, read from a PNG file each when it is needed.

    paths: of N files; a pixel's value is the place of its class in the names of the store, 255 is
    no class. stamps: the name of each file and the hash of its bytes, for the fingerprint.
    """

    paths: Sequence[Path]
    stamps: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, rows: Rows) -> LabelMaps:
        """Those of the given images, in that order."""
        return replace(
            self, paths=[self.paths[int(row)] for row in rows],
            stamps=[self.stamps[int(row)] for row in rows],
        )  # fmt: skip

    def fingerprint(self) -> bytes:
        return hashlib.blake2b("\n".join(self.stamps).encode(), digest_size=16).digest()

    def read(self, row: int) -> npt.NDArray[np.uint8]:
        """The map of an image, uint8 [height, width]. Raises DataError."""
        path = self.paths[row]
        with _opened(path) as image:
            if image.mode not in ("P", "L"):
                raise DataError(
                    f"{path} has the colors of a {image.mode} image; expected one number of a "
                    "class for each pixel (a gray or palette PNG)."
                )
            return np.asarray(image, dtype=np.uint8).copy()

    def sizes(self) -> Rows:
        """(height, width) of each map by the head of its file, int64 [N, 2]. Raises DataError."""
        sizes = np.zeros((len(self), 2), np.int64)
        for row, path in enumerate(self.paths):
            with _opened(path) as image:
                sizes[row] = image.height, image.width
        return sizes


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"The label map {path} cannot be read: {error}.") from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnotatedStore(ImageStore):
    """Images together with what is annotated in them, row by row."""

    annotations: Objects | LabelMaps

    def subset(self, rows: Rows) -> AnnotatedStore:
        """The store of the given rows, in that order; pixels and objects are shared."""
        kept = ImageStore.subset(self, rows)
        assert isinstance(kept, AnnotatedStore)
        return replace(kept, annotations=self.annotations.subset(rows))

    @property
    def fingerprint(self) -> str:
        """Of the images and of what is annotated in them."""
        base = ImageStore.fingerprint.fget(self)  # type: ignore[attr-defined]
        hasher = hashlib.blake2b(base.encode(), digest_size=16)
        hasher.update(self.annotations.fingerprint())
        hasher.update("\n".join(self.class_names).encode())
        return hasher.hexdigest()

    @property
    def objects(self) -> Objects:
        """The objects. Raises DataError where the images have label maps."""
        if isinstance(self.annotations, Objects):
            return self.annotations
        raise DataError(f"{self.source} has a label map of each image, and no objects.")

    @property
    def label_maps(self) -> LabelMaps:
        """The label maps. Raises DataError where the images have boxes."""
        if isinstance(self.annotations, LabelMaps):
            return self.annotations
        raise DataError(f"{self.source} has objects, and no label map of each image.")


def annotate(
    store: ImageStore, annotations: Objects | LabelMaps, class_names: Sequence[str], **changes: Any
) -> AnnotatedStore:
    """``store`` with the annotations of its rows."""
    fields = {name: getattr(store, name) for name in ImageStore.__dataclass_fields__}
    fields |= {"class_names": tuple(class_names), "annotations": annotations, **changes}
    return AnnotatedStore(**fields)


def with_class_names(store: AnnotatedStore, class_names: tuple[str, ...]) -> AnnotatedStore:
    """The same objects with their classes numbered by ``class_names``.

    Raises DataError for objects of a class that is not there, and for label maps whose classes are
    not the first of ``class_names``.
    """
    if store.class_names == class_names:
        return store
    places = {name: place for place, name in enumerate(class_names)}
    if isinstance(store.annotations, LabelMaps):
        # The numbers in the maps stay: without classes.txt a part may lack the last classes.
        if store.class_names == class_names[: len(store.class_names)]:
            return replace(store, class_names=class_names)
        raise DataError(
            f"{store.source} has the classes {', '.join(store.class_names)}; expected those of the "
            f"training images: {', '.join(class_names)}. The lines of a file classes.txt beside "
            "the folders of images name the classes of all parts."
        )
    objects = store.annotations
    used = np.unique(objects.classes[objects.places()])
    unknown = [store.class_names[int(c)] for c in used if store.class_names[int(c)] not in places]
    if unknown:
        raise DataError(
            f"{store.source} has objects of classes that the training images lack: "
            f"{', '.join(unknown)}."
        )
    table = np.array([places.get(name, -1) for name in store.class_names], np.int64)
    numbers: Mapping[str, int] = dict(
        zip(store.class_names, objects.categories.tolist(), strict=True)
    )
    categories = np.array(
        [numbers.get(name, 1_000_000 + place) for place, name in enumerate(class_names)], np.int64
    )
    objects = replace(objects, classes=table[objects.classes], categories=categories)
    return replace(store, annotations=objects, class_names=class_names)
