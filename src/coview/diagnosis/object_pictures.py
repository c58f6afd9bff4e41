"""Pictures of images with their objects: true and predicted, or as the network gets them."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from coview.core.files import write_bytes
from coview.core.images import OWN_PICTURE
from coview.core.rng import CONTACT_SHEET_IMAGES, Stream, permutation
from coview.data.annotations import UNKNOWN, AnnotatedStore
from coview.data.outlines import decode_rle
from coview.dense import Detector, Segmenter
from coview.dense.inputs import render_maps, render_objects
from coview.evaluation.detections import Detected
from coview.recipes import DenseRecipe

SHOWN, COLUMNS, CELL, GAP = 8, 4, 260, 12
LEAST_SCORE, MOST_BOXES = 0.3, 12
TRUE, PREDICTED = (20, 150, 60), (230, 90, 20)

Pixels = npt.NDArray[np.uint8]


def write_inputs(path: Path, store: AnnotatedStore, recipe: DenseRecipe) -> None:
    """Write a PNG of six training images as the network gets them, with their objects."""
    rows = permutation(recipe.seed, Stream.HEALTH, store.ids, draw_index=CONTACT_SHEET_IMAGES)[:6]
    method = recipe.method
    cells = []
    if isinstance(method, Detector):
        images, sizes, boxes, owners, classes, *_ = render_objects(
            store, rows, method, seed=recipe.seed, epoch=0
        )
        for place in range(len(rows)):
            mine = (owners == place).numpy()
            labels = [store.class_names[int(number) - 1] for number in classes.numpy()[mine]]
            cell = _picture(method.view.unnormalize(images[place]).numpy())
            cell = cell.crop((0, 0, int(sizes[place, 1]), int(sizes[place, 0])))
            cells.append(draw_boxes(cell, boxes.numpy()[mine], labels, TRUE))
    else:
        assert isinstance(method, Segmenter)
        views, maps = render_maps(store, rows, method, seed=recipe.seed, epoch=0)
        for view, labels_ in zip(views, maps, strict=True):
            cells.append(overlay(_picture(method.view.unnormalize(view).numpy()), labels_.numpy()))
    write_sheet(path, cells)


def write_found(path: Path, store: AnnotatedStore, found: Sequence[Detected]) -> None:
    """Write a PNG of the first test images: true boxes green, predicted ones orange."""
    objects, cells = store.objects, []
    for row, detected in enumerate(found[:SHOWN]):
        cell = Image.fromarray(store.image(row))
        factors = np.array(
            [cell.width / objects.widths[row], cell.height / objects.heights[row]] * 2
        )
        sure = np.flatnonzero(detected.scores >= LEAST_SCORE)[:MOST_BOXES]
        for place in sure if detected.outlines else ():
            mask = Image.fromarray(decode_rle(detected.outlines[place]) * 90)
            cell.paste(Image.new("RGB", cell.size, PREDICTED), mask=mask.resize(cell.size))
        own = objects.of(row)
        cell = draw_boxes(cell, objects.boxes[own] * factors, [""] * (own.stop - own.start), TRUE)
        labels = [
            f"{store.class_names[int(detected.classes[k])]} {detected.scores[k]:.2f}" for k in sure
        ]
        cells.append(draw_boxes(cell, detected.boxes[sure] * factors, labels, PREDICTED))
    write_sheet(path, cells)


def write_segmented(
    path: Path, store: AnnotatedStore, maps: Sequence[Pixels], classes: int
) -> None:
    """Write a PNG of the first test images: beside each true map its predicted one."""
    cells = []
    for row, predicted in enumerate(maps[: SHOWN // 2]):
        image = Image.fromarray(store.image(row))
        cells += [overlay(image, store.label_maps.read(row)), overlay(image, predicted)]
    write_sheet(path, cells)


def draw_boxes(
    picture: Image.Image,
    boxes: npt.NDArray[Any],
    labels: Sequence[str],
    color: tuple[int, int, int],
) -> Image.Image:
    """The picture at the width of a cell, with boxes [G, 4] in its pixels and a label on each."""
    factor = CELL / picture.width
    picture = picture.resize((CELL, max(1, round(picture.height * factor))))
    pen = ImageDraw.Draw(picture)
    for box, label in zip(boxes * factor, labels, strict=True):
        x1, y1, x2, y2 = (float(value) for value in box)
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=color, width=2)
        if label:
            place = (x1 + 3, y1 + 2)
            area = pen.textbbox(place, label)
            pen.rectangle((area[0] - 2, area[1] - 1, area[2] + 2, area[3] + 1), fill=color)
            pen.text(place, label, fill=(255, 255, 255))
    return picture


def overlay(picture: Image.Image, labels: Pixels) -> Image.Image:
    """The picture under the colors of its classes; class 0 and no class stay as they are."""
    colors = np.array([_color(number) for number in range(256)], np.uint8)
    shown = Image.fromarray(colors[labels]).resize(picture.size, Image.Resampling.NEAREST)
    covered = np.where((labels == 0) | (labels == UNKNOWN), 0, 150).astype(np.uint8)
    mask = Image.fromarray(covered).resize(picture.size, Image.Resampling.NEAREST)
    picture = picture.copy()
    picture.paste(shown, mask=mask)
    return picture.resize((CELL, max(1, round(picture.height * CELL / picture.width))))


def write_sheet(path: Path, cells: Sequence[Image.Image]) -> None:
    """Write the pictures in rows of four."""
    rows = [cells[first : first + COLUMNS] for first in range(0, len(cells), COLUMNS)]
    heights = [max(cell.height for cell in row) for row in rows]
    sheet = Image.new(
        "RGB",
        (COLUMNS * (CELL + GAP) + GAP, sum(heights) + GAP * (len(rows) + 1)),
        (255, 255, 255),
    )
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (GAP + column * (CELL + GAP), top))
        top += height + GAP
    note = PngInfo()
    note.add_text(*OWN_PICTURE)
    stream = io.BytesIO()
    sheet.save(stream, "PNG", pnginfo=note)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, stream.getvalue())


def _picture(view: npt.NDArray[np.float32]) -> Image.Image:
    levels = (view.clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))


def _color(number: int) -> tuple[int, ...]:
    red, green, blue = colorsys.hsv_to_rgb(number * 0.61803 % 1, 0.75, 0.9)
    return tuple(round(255 * level) for level in (red, green, blue))
