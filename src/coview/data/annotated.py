"""Annotated images as a value: where they are, and how they are opened again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from coview.core.errors import DataError, RunError
from coview.core.images import ImageStore
from coview.core.paths import absolute_path
from coview.core.text import plural
from coview.core.values import decode_one
from coview.data.annotations import AnnotatedStore, LabelMaps, Objects, annotate
from coview.data.coco import FOLDER, Annotated, coco_parts, image_folder, read_coco
from coview.data.label_maps import map_parts, read_maps
from coview.data.listing import utf8_name
from coview.data.parts import ALL, part_of_word, select_part
from coview.data.spec import DataSpec
from coview.data.voc import read_voc, voc_folders, voc_parts

TOLERANCE = 0.02
"""Largest difference between the shape of an image and that of its annotation, as a share."""


@dataclass(frozen=True, kw_only=True)
class AnnotatedSpec(DataSpec):
    """A source of annotated images: a folder in COCO's or VOC's layout, or a file of COCO's.

    semantic: the annotations are label maps, else boxes. image_folder: where the images of a file
    are, where it does not lie in COCO's layout.

    >>> spec = AnnotatedSpec(source="/data/coco", semantic=False)
    >>> AnnotatedSpec.from_json(spec.to_json()) == spec
    True
    """

    semantic: bool = False
    image_folder: str | None = None

    def open(self, data: Any = None, *, workers: int | None = None) -> AnnotatedStore:
        """The images and their annotations. ``data`` stands in for the source where it has moved.

        Raises DataError where there are none, or they do not fit the images.
        """
        source = self.source if data is None else data
        if not isinstance(source, str | Path):
            raise RunError("Annotated images are read from a folder or a file in COCO's format.")
        root = absolute_path(source)
        read, parts = self._read(root, moved=data is not None)
        files, annotations, names, notes = read
        listed = replace(
            self, source=tuple(map(str, files)), split=None, labels_from="none", needs_labels=False,
            for_test=False,
        )  # fmt: skip
        store = DataSpec.open(listed, workers=workers)
        rows, store = _match(store, files, annotations)
        store = replace(store, source=str(source), parts=tuple(parts), notes=(*store.notes, *notes))
        return annotate(store, annotations.subset(rows), names)

    def _read(self, root: Path, *, moved: bool) -> tuple[_Read, Sequence[str]]:
        if self.semantic:
            maps = map_parts(root)
            if not maps:
                raise DataError(
                    f"{root} has no label maps: expected images/ beside masks/ with a PNG for each "
                    "image, or VOC's JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/."
                )
            part = self._part(maps, root)
            pairs = [pair for name in part for pair in maps[name]]
            mapped = read_maps(root, pairs)
            return (mapped.files, mapped.maps, mapped.class_names, mapped.notes), list(maps)
        if root.suffix == ".json":
            folder = None if self.image_folder is None or moved else Path(self.image_folder)
            match = root.name.removeprefix("instances_").removesuffix(".json")
            return _boxes(read_coco(root, folder or image_folder(root, match))), ()
        files = coco_parts(root)
        if files:
            words = {_word(part): part for part in files}
            part = self._part(words, root)
            if len(part) > 1:
                raise DataError(
                    f"{root} has several files of annotations; open one of them by `split`: "
                    f"{', '.join(words)}."
                )
            file = files[words[part[0]]]
            return _boxes(read_coco(file, image_folder(file, words[part[0]]))), list(words)
        folders = voc_folders(root)
        lists = voc_parts(folders, "Main")
        if not lists:
            raise DataError(
                f"{root} holds no annotations of boxes: expected {FOLDER}/instances_*.json beside "
                "folders of images (COCO), or JPEGImages/, Annotations/ and ImageSets/Main/ (VOC), "
                "or give a .json file."
            )
        part = self._part(lists, root)
        return _boxes(read_voc([image for name in part for image in lists[name]])), list(lists)

    def _part(self, parts: Mapping[str, Any], root: Path) -> list[str]:
        chosen = select_part(list(parts), self.split, for_test=self.for_test, source=str(root))
        return list(parts) if chosen == ALL else [chosen]

    def to_json(self) -> dict[str, Any]:
        """A JSON object. A permission to download is not part of it."""
        return {**DataSpec.to_json(self), "type": "AnnotatedSpec"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AnnotatedSpec:
        return decode_one({**data, "type": "AnnotatedSpec"}, cls)


_Read = tuple[list[Path], Objects | LabelMaps, tuple[str, ...], tuple[str, ...]]


def spec_from_json(data: Mapping[str, Any]) -> DataSpec:
    """The source of a run as run.json describes it, of either class."""
    kind = AnnotatedSpec if data.get("type") == "AnnotatedSpec" else DataSpec
    return kind.from_json(data)


def _boxes(read: Annotated) -> _Read:
    return read.files, read.objects, read.class_names, read.notes


def _word(part: str) -> str:
    """The part that a name such as "train2017" means; the name itself where it means none."""
    return part_of_word(part) or part


def _match(
    store: ImageStore, files: Sequence[Path], annotations: Objects | LabelMaps
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], ImageStore]:
    """The annotations' row of every image, and the images that have the annotated shape.

    An image that was turned or replaced since it was annotated is left out and listed.
    """
    base = Path(os.path.commonpath([file.parent for file in files]))
    places = {utf8_name(file.relative_to(base).as_posix()): row for row, file in enumerate(files)}
    rows = np.array([places[name] for name in store.names], np.int64)
    if isinstance(annotations, LabelMaps):
        height, width = annotations.subset(rows).sizes().T
    else:
        height, width = annotations.heights[rows], annotations.widths[rows]
    shape = (store.heights * width) / np.maximum(store.widths * height, 1)
    # A small image that is kept at a smaller size is rounded to whole pixels.
    slack = TOLERANCE + 1 / np.minimum(store.heights, store.widths)
    fits = np.abs(np.log(np.maximum(shape, 1e-9))) <= slack
    if fits.all():
        return rows, store
    left_out = tuple(
        (
            store.names[int(row)],
            f"{store.widths[row]} x {store.heights[row]} pixels, annotated as "
            f"{width[row]} x {height[row]}",
        )
        for row in np.flatnonzero(~fits)
    )
    if not fits.any():
        name, reason = left_out[0]
        raise DataError(f"No image has the shape that its annotation says: {name} has {reason}.")
    kept = np.flatnonzero(fits)
    note = f"{plural(len(left_out), 'image')} of another shape than annotated left out."
    store = replace(store.subset(kept), quarantine=(*store.quarantine, *left_out))
    return rows[kept], replace(store, notes=(*store.notes, note))
