"""Annotations in the format of Pascal VOC: an XML file of objects for each image.

Layout (Everingham et al., "The Pascal Visual Object Classes challenge", 2010): JPEGImages/,
Annotations/*.xml, ImageSets/Main/{train,val,trainval,test}.txt; for semantic segmentation
SegmentationClass/*.png and ImageSets/Segmentation/. A folder of such folders (VOC2007, VOC2012) is
their union. Corners count from 1 and are those of the outermost pixels: x1 - 1 and x2 are the
borders of the box.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from coview.core.errors import DataError
from coview.core.files import entries, read_content
from coview.core.text import plural
from coview.data.coco import Annotated, ObjectRow, clip_box, objects_of

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
IMAGES, ANNOTATIONS, LISTS = "JPEGImages", "Annotations", "ImageSets"
TRAINING, TESTING = ("trainval", "train"), ("test", "val")
MAX_BYTES, MAX_DEPTH = 1 << 24, 16


def voc_folders(root: Path) -> list[Path]:
    """The folders in VOC's layout that ``root`` is or has, in the order of their names."""
    folders = [root, *(root / name for name in sorted(entries(root)))]
    return [folder for folder in folders
            if (folder / IMAGES).is_dir() and (folder / LISTS).is_dir()]  # fmt: skip


def voc_parts(folders: list[Path], kind: str) -> dict[str, list[tuple[Path, str]]]:
    """Part ("train", "test") -> the (folder, name of an image) in it; by ImageSets/``kind``.

    A list of test images counts where their annotations are there (those of VOC2012 are not
    public). With one, training takes trainval; else train, and val is the test part.
    """
    lists: dict[str, list[tuple[Path, str]]] = {}
    for folder in folders:
        for name in (*TRAINING, *TESTING):
            content = read_content(folder / LISTS / kind / f"{name}.txt")
            if content is not None:
                names = [line.split()[0] for line in content.decode("utf-8", "replace").splitlines()
                         if line.strip()]  # fmt: skip
                for image in names:
                    if Path(image).name != image:
                        raise DataError(
                            f"{folder / LISTS / kind / name}.txt names {image!r}; expected "
                            "names of images without folders."
                        )
                lists.setdefault(name, []).extend((folder, image) for image in names)
    inner = ("SegmentationClass", ".png") if kind == "Segmentation" else (ANNOTATIONS, ".xml")
    tests = [(folder, name) for folder, name in lists.pop("test", [])
             if (folder / inner[0] / f"{name}{inner[1]}").is_file()]  # fmt: skip
    parts: dict[str, list[tuple[Path, str]]] = {}
    if tests:
        parts["test"] = tests
        training = lists.get("trainval") or [*lists.get("train", []), *lists.get("val", [])]
    else:
        training = lists.get("train") or lists.get("trainval") or []
        if "train" in lists and "val" in lists:
            parts["val"] = lists["val"]
    if training:
        parts["train"] = training
    return parts


def read_voc(images: list[tuple[Path, str]]) -> Annotated:
    """The objects of the images (folder, name). Raises DataError."""
    rows: list[ObjectRow] = []
    counts, sizes = [], []
    parsed = [read_xml(folder / ANNOTATIONS / f"{name}.xml") for folder, name in images]
    used = {name for annotation in parsed for name, *_ in annotation[1]}
    # VOC's own classes keep their numbers; a data set of others has its own.
    class_names = CLASSES if used <= set(CLASSES) else tuple(sorted(used))
    place = {name: number for number, name in enumerate(class_names)}
    empty = 0
    for size, objects in parsed:
        before = len(rows)
        for name, box, difficult in objects:
            clipped = clip_box((box[0] - 1, box[1] - 1, box[2], box[3]), size)
            if clipped is None:
                empty += 1
                continue
            area = (clipped[2] - clipped[0]) * (clipped[3] - clipped[1])
            rows.append(ObjectRow(clipped, place[name], area, False, difficult, None))
        counts.append(len(rows) - before)
        sizes.append(size)
    notes = (f"{plural(empty, 'object')} without any area left out.",) if empty else ()
    return Annotated(
        files=[folder / IMAGES / f"{name}.jpg" for folder, name in images],
        objects=objects_of(
            rows, np.array(counts, np.int64), sizes, numbers=list(range(1, len(images) + 1)),
            categories=list(range(1, len(class_names) + 1)),
        ),
        class_names=class_names, notes=notes,
    )  # fmt: skip


Box = tuple[float, float, float, float]


def read_xml(path: Path) -> tuple[tuple[int, int], list[tuple[str, Box, bool]]]:
    """((height, width), [(class, (xmin, ymin, xmax, ymax), difficult)]) of one file.

    Entities, document types and files that they name are refused, so that a file neither reads
    others nor grows. Raises DataError.
    """
    content = read_content(path)
    if content is None:
        raise DataError(f"There is no annotation {path}.")
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} has {len(content):,} bytes; expected an annotation of one image.")
    try:
        root = _parse(content)
        size = root["size"][0]
        height, width = (int(float(_text(size, name))) for name in ("height", "width"))
        objects = []
        for item in root.get("object", []):
            box = item["bndbox"][0]
            corners = [float(_text(box, name)) for name in ("xmin", "ymin", "xmax", "ymax")]
            if not np.isfinite(corners).all():
                raise ValueError("a corner is not finite")
            difficult = _text(item, "difficult", "0").strip() == "1"
            objects.append((_text(item, "name").strip(), (*corners,), difficult))
    except (expat.ExpatError, KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise DataError(
            f"{path} is not an annotation in VOC's format: {type(error).__name__}, {error}."
        ) from error
    if height < 1 or width < 1:
        raise DataError(f"{path} says an image of {width} x {height} pixels.")
    return (height, width), objects  # type: ignore[return-value]


def _text(node: dict[str, list[Any]], name: str, default: str | None = None) -> str:
    if name not in node and default is not None:
        return default
    return str(node[name][0])


def _parse(content: bytes) -> dict[str, list[Any]]:
    """Name of an element -> its occurrences, each a text or such an object."""
    root: dict[str, list[Any]] = {}
    stack: list[tuple[dict[str, list[Any]], list[str]]] = [(root, [])]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > MAX_DEPTH:
            raise ValueError("elements lie too deep")
        stack.append(({}, []))

    def end(name: str) -> None:
        children, texts = stack.pop()
        stack[-1][0].setdefault(name, []).append(children or "".join(texts))

    def refuse(*_: Any) -> int:
        raise ValueError("a document type or an entity is declared")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = lambda text: stack[-1][1].append(text)
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = parser.UnparsedEntityDeclHandler = refuse
    parser.Parse(content, True)
    (document,) = root.values()
    return dict(document[0])
