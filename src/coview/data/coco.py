"""Annotations in COCO's format: one JSON file of images, categories and objects.

Format: https://cocodataset.org/#format-data, "object detection". Boxes are (x, y, width, height).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from coview.core.errors import DamagedFile, DataError
from coview.core.files import entries
from coview.core.run_folder import read_object
from coview.core.text import plural
from coview.data.annotations import Objects, Outline
from coview.data.outlines import fill_outline

FOLDER = "annotations"
LARGEST = 1e9
"""The largest size of a number in a box or an outline."""
MOST_PIXELS = 1 << 30
"""Of an image, by its annotation."""
FILE = re.compile(r"instances_(?P<part>.+)\.json")


class _Image(TypedDict):
    id: int
    file_name: str
    width: int
    height: int


class _Category(TypedDict):
    id: int
    name: str


class _Object(TypedDict):
    image_id: int
    category_id: int
    bbox: list[float]


class _Content(TypedDict):
    images: list[_Image]
    annotations: list[_Object]
    categories: list[_Category]


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotated:
    """The files of images, their objects row by row, the names of the classes, and notes."""

    files: list[Path]
    objects: Objects
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def coco_parts(root: Path) -> dict[str, Path]:
    """The parts of a folder in COCO's layout, such as "train2017", and the file of each."""
    names = sorted(entries(root / FOLDER))
    return {
        match["part"]: root / FOLDER / name for name in names if (match := FILE.fullmatch(name))
    }


def image_folder(file: Path, part: str) -> Path:
    """The folder of the images of annotations/instances_``part``.json. Raises DataError."""
    root = file.parent.parent if file.parent.name == FOLDER else file.parent
    places = (root / part, root / "images" / part, root / "images", root / "JPEGImages")
    for place in places if part else places[2:]:
        if place.is_dir():
            return place
    wanted = f"{part}/ or images/" if part else "images/"
    raise DataError(
        f"There is no folder of the images of {file}; expected {wanted} in {root}, or name it by "
        "`images`."
    )


def read_coco(file: Path, folder: Path) -> Annotated:
    """The objects of every image that ``file`` lists; the images lie below ``folder``.

    Boxes are cut at the border of the image; an object without any area left is left out, and
    counted in a note. Raises DataError or DamagedFile with the place of what is wrong.
    """
    try:
        content = read_object(file, _Content)
    except DamagedFile as error:
        raise DataError(
            f"{error} A file in COCO's format has images, annotations, categories."
        ) from None
    if content is None:
        raise DataError(f"There is no file of annotations {file}.")
    images, categories = content["images"], content["categories"]
    for what, items in (("images", images), ("categories", categories)):
        if not items:
            raise DataError(f"{file} lists no {what}.")
        if len({item["id"] for item in items}) < len(items):
            raise DataError(f"{file} has several {what} of one number (id).")
        if any(not -(2**63) <= item["id"] < 2**63 for item in items):
            raise DataError(
                f"{file} has {what} with a number (id) beyond 64 bits; expected a smaller one."
            )
    _check_images(images, file)
    places = {category["id"]: place for place, category in enumerate(categories)}
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    by_image: dict[int, list[ObjectRow]] = {image["id"]: [] for image in images}
    empty = 0
    for number, item in enumerate(content["annotations"]):
        where = f"{file}: annotation {number}"
        if item["image_id"] not in sizes:
            raise DataError(f"{where} is of image {item['image_id']}, which is not listed.")
        if item["category_id"] not in places:
            raise DataError(
                f"{where} is of the category {item['category_id']}, which is not listed."
            )
        row = _row(item, sizes[item["image_id"]], places[item["category_id"]], where)
        if row is None:
            empty += 1
        else:
            by_image[item["image_id"]].append(row)
    rows = [row for image in images for row in by_image[image["id"]]]
    counts = np.array([len(by_image[image["id"]]) for image in images], np.int64)
    objects = objects_of(
        rows, counts, [sizes[image["id"]] for image in images],
        numbers=[image["id"] for image in images],
        categories=[category["id"] for category in categories],
    )  # fmt: skip
    notes = (f"{plural(empty, 'object')} without any area left out.",) if empty else ()
    return Annotated(
        files=[folder / image["file_name"] for image in images], objects=objects,
        class_names=tuple(category["name"] for category in categories), notes=notes,
    )  # fmt: skip


def _check_images(images: list[_Image], file: Path) -> None:
    """Raise DataError for a size that no image has, or a file outside the folder of images."""
    for number, image in enumerate(images):
        where, height, width = f"{file}: image {number}", image["height"], image["width"]
        if min(height, width) < 1 or height * width > MOST_PIXELS:
            raise DataError(
                f"{where} has a height or width that no image has; expected at least 1 x 1 pixels "
                f"and at most {MOST_PIXELS:,} in all."
            )
        name = image["file_name"]
        path = PurePosixPath(name.replace("\\", "/"))
        if (
            not path.parts
            or path.is_absolute()
            or ".." in path.parts
            or PureWindowsPath(name).drive
        ):
            raise DataError(
                f"{where} has the file name {name!r}; expected a file within the folder of the "
                "images."
            )


def is_moderate(value: Any) -> bool:
    """Whether it is a finite number that a place in an image may be.

    >>> is_moderate(-3.5), is_moderate(1e300), is_moderate(10**400), is_moderate(True)
    (True, False, False, False)
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -LARGEST <= value <= LARGEST


@dataclass(frozen=True, slots=True)
class ObjectRow:
    box: tuple[float, float, float, float]
    place: int
    area: float
    crowd: bool
    difficult: bool
    outline: Outline


def _row(
    item: Mapping[str, Any], size: tuple[int, int], place: int, where: str
) -> ObjectRow | None:
    """An object, or None where nothing of its box lies in the image."""
    if len(item["bbox"]) != 4:
        raise DataError(f"{where} has a bbox of {len(item['bbox'])} numbers; expected 4.")
    if not all(map(is_moderate, item["bbox"])):
        raise DataError(
            f"{where} has a bbox with a number that is not finite or too large; expected at most "
            f"{LARGEST:,.0f}."
        )
    x, y, width, height = item["bbox"]
    box = clip_box((x, y, x + width, y + height), size)
    if box is None:
        return None
    outline = item.get("segmentation") or None
    check_outline(outline, where, size)
    area = item["area"] if "area" in item else _area(box, outline, size)
    if isinstance(area, bool) or not isinstance(area, int | float) or not 0 <= area <= LARGEST**2:
        raise DataError(
            f"{where} has an area that is no finite number of square pixels; expected 0 to "
            f"{LARGEST**2:.0e}."
        )
    return ObjectRow(box, place, float(area), bool(item.get("iscrowd", 0)), False, outline)


def _area(box: tuple[float, float, float, float], outline: Outline, size: tuple[int, int]) -> float:
    """Of the outline in square pixels, of the box where there is none."""
    if outline is None:
        return (box[2] - box[0]) * (box[3] - box[1])
    return float(fill_outline(outline, size, size).sum())


def clip_box(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """The box within an image of (height, width); None where nothing is left.

    >>> clip_box((-2, 1, 5, 9), (8, 4))
    (0.0, 1.0, 4.0, 8.0)
    """
    height, width = size
    x1, x2 = (min(max(float(x), 0.0), float(width)) for x in (box[0], box[2]))
    y1, y2 = (min(max(float(y), 0.0), float(height)) for y in (box[1], box[3]))
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def check_outline(outline: Outline, where: str, size: tuple[int, int]) -> None:
    """Raise DataError unless it is None, polygons, or an RLE of ``size`` (height, width)."""
    if outline is None:
        return
    if isinstance(outline, list):
        is_number = all(
            isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
            and all(map(is_moderate, polygon))
            for polygon in outline
        )  # fmt: skip
        if is_number:
            return
    elif isinstance(outline, dict) and _is_rle(outline):
        if tuple(outline["size"]) != size:
            raise DataError(
                f"{where} has an RLE of another size (height, width) than its image; expected "
                f"{list(size)}."
            )
        return
    raise DataError(
        f"{where} has a segmentation that is neither polygons of three points and more, with "
        f"finite numbers of at most {LARGEST:,.0f}, nor an RLE with size and counts."
    )


def _is_rle(outline: Mapping[str, Any]) -> bool:
    size, counts = outline.get("size"), outline.get("counts")
    if isinstance(counts, list) and not all(type(count) is int for count in counts):
        return False
    is_size = isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)
    return is_size and isinstance(counts, list | str)


def objects_of(
    rows: list[ObjectRow], counts: npt.NDArray[np.int64], sizes: list[tuple[int, int]], *,
    numbers: list[int], categories: list[int],
) -> Objects:  # fmt: skip
    """The objects of images, image by image."""
    outlines = [row.outline for row in rows]
    return Objects(
        boxes=np.array([row.box for row in rows], np.float64).reshape(-1, 4),
        classes=np.array([row.place for row in rows], np.int64),
        areas=np.array([row.area for row in rows], np.float64),
        crowd=np.array([row.crowd for row in rows], bool),
        difficult=np.array([row.difficult for row in rows], bool),
        outlines=outlines if any(outline is not None for outline in outlines) else (),
        starts=np.cumsum(counts) - counts, counts=counts,
        heights=np.array([size[0] for size in sizes], np.int64),
        widths=np.array([size[1] for size in sizes], np.int64),
        numbers=np.array(numbers, np.int64), categories=np.array(categories, np.int64),
    )  # fmt: skip
