"""Images with a PNG file each that holds the class of every pixel: semantic segmentation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coview.core.errors import DataError
from coview.core.files import entries, read_content
from coview.data.annotations import UNKNOWN, LabelMaps
from coview.data.parts import part_of_word
from coview.data.voc import CLASSES, IMAGES, voc_folders, voc_parts

FOLDERS = {"images": ("images", IMAGES), "masks": ("masks", "labels", "SegmentationClass")}
NAMES_FILE = "classes.txt"
"""One name of a class in each line, in the order of their numbers."""
MASK_SUFFIX = ".png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """The files of images, the label map of each, and the names of the classes."""

    files: list[Path]
    maps: LabelMaps
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def map_parts(root: Path) -> dict[str, list[tuple[Path, Path]]]:
    """Part -> (image, label map) of every image that has a map; {} where there is no such layout.

    VOC's layout by ImageSets/Segmentation; else images/ beside masks/ (or labels/), both with
    sub-folders train, val and test or without.
    """
    folders = voc_folders(root)
    parts = voc_parts(folders, "Segmentation") if folders else {}
    if parts:
        return {
            part: [
                (folder / IMAGES / f"{name}.jpg", folder / "SegmentationClass" / f"{name}.png")
                for folder, name in images
            ]
            for part, images in parts.items()
        }
    images, masks = (
        next((root / name for name in names if (root / name).is_dir()), None)
        for names in FOLDERS.values()
    )
    if images is None or masks is None:
        return {}
    inner = {name: part for name in entries(images)
             if (images / name).is_dir() and (part := part_of_word(name))}  # fmt: skip
    places = [(part, images / name, masks / name) for name, part in sorted(inner.items())]
    pairs = {part: _pairs(a, b) for part, a, b in places or [("train", images, masks)]}
    return {part: files for part, files in pairs.items() if files}


def _pairs(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    by_stem = {Path(name).stem: masks / name for name in sorted(entries(masks))
               if name.lower().endswith(MASK_SUFFIX)}  # fmt: skip
    return [(images / name, by_stem[Path(name).stem]) for name in sorted(entries(images))
            if Path(name).stem in by_stem]  # fmt: skip


def read_maps(root: Path, pairs: list[tuple[Path, Path]]) -> Mapped:
    """The label maps of the images of a part, and their classes.

    The names of the classes are those of classes.txt, else VOC's where the maps lie as VOC's do,
    else the numbers up to the largest in any map. Raises DataError.
    """
    stamps = []
    for _, mask in pairs:
        try:
            pixels = mask.read_bytes()
        except OSError as error:
            raise DataError(f"The label map {mask} cannot be read: {error.strerror}.") from error
        stamps.append(f"{mask.name} {hashlib.blake2b(pixels, digest_size=16).hexdigest()}")
    maps = LabelMaps(paths=[mask for _, mask in pairs], stamps=stamps)
    content = read_content(root / NAMES_FILE)
    if content is not None:
        lines = content.decode("utf-8", "replace").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
    elif pairs and pairs[0][1].parent.name == "SegmentationClass":
        names = ("background", *CLASSES)
    else:
        names = tuple(map(str, range(_largest(maps) + 1)))
    if not 2 <= len(names) <= UNKNOWN:
        raise DataError(
            f"{root} has {len(names)} classes of pixels; expected 2 to {UNKNOWN}, with their names "
            f"in {NAMES_FILE}, one in each line."
        )
    return Mapped(files=[image for image, _ in pairs], maps=maps, class_names=names)


def _largest(maps: LabelMaps) -> int:
    """The largest number of a class in any map; 255 is no class."""
    largest = 0
    for row in range(len(maps)):
        values = maps.read(row)
        known = values[values != UNKNOWN]
        largest = max(largest, int(known.max()) if known.size else 0)
    return largest


def check_map(
    values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], classes: int, path: Path
) -> None:
    """Raise DataError where a pixel has a number that is no class, and is not 255."""
    wrong = values[(values >= classes) & (values != UNKNOWN)]
    if wrong.size:
        raise DataError(
            f"{path} has a pixel of the class {int(wrong[0])}; there are {classes} classes, 0 to "
            f"{classes - 1}, and {UNKNOWN} for none."
        )
