"""A contact sheet: what the model will see of a few images, and how much its views share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.files import write_bytes
from coview.core.images import ImageStore
from coview.views.draw import Table, draw
from coview.views.plan import ViewPlan, ViewSpec
from coview.views.render import render

if TYPE_CHECKING:
    from PIL import Image

CELL, GAP, CAPTION, MARGIN, FRAME = 216, 18, 26, 28, 4
INK, FAINT, PAPER, SHARED = (34, 34, 38), (120, 120, 128), (255, 255, 255), (255, 221, 87)
SLOTS = ((222, 94, 20), (31, 119, 180), (56, 142, 60), (142, 68, 173))

Box = tuple[int, int, int, int]
Pixels = npt.NDArray[np.uint8]


def contact_sheet(
    store: ImageStore, rows: npt.NDArray[np.int64], plan: ViewPlan, path: Path, *, seed: int
) -> None:
    """Write a PNG with one line per image: the original with its crops, then every view.

    Views are those of epoch 0. What no crop covers is faded, what the first two share is tinted
    and told as intersection over union; under each view stands what was done to it. Raises
    InvalidValue without images.
    """
    from PIL import Image

    rows = np.asarray(rows, dtype=np.int64)
    if len(rows) == 0:
        raise InvalidValue("A contact sheet needs at least one image; give some rows.")
    sizes = store.heights[rows], store.widths[rows]
    tables = [
        draw(spec, store.ids[rows], *sizes, seed=seed, epoch=0, slot=slot)
        for slot, spec in enumerate(plan.views)
    ]
    views = [
        levels(render(store, rows, table, spec).numpy(), spec)
        for table, spec in zip(tables, plan.views, strict=True)
    ]
    step = CELL + GAP
    width = 2 * MARGIN + (1 + len(views)) * step - GAP
    height = 2 * MARGIN + len(rows) * (step + CAPTION) - GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    for line, row in enumerate(rows):
        top = MARGIN + line * (step + CAPTION)
        boxes = [box_of(table, line) for table in tables]
        original = mark_crops(store.image(int(row)), boxes)
        place(sheet, original, MARGIN, top, overlap_text(boxes), None)
        for slot, (table, pictures) in enumerate(zip(tables, views, strict=True)):
            left = MARGIN + (1 + slot) * step
            text, colour = describe(table, line), SLOTS[slot % len(SLOTS)]
            place(sheet, Image.fromarray(pictures[line]), left, top, text, colour)
    stream = io.BytesIO()
    sheet.save(stream, format="PNG")
    write_bytes(Path(path), stream.getvalue())


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes (top, left, height, width)."""
    shared = intersection(first, second)
    both = shared[2] * shared[3]
    return both / (first[2] * first[3] + second[2] * second[3] - both)


def intersection(first: Box, second: Box) -> Box:
    """The box that two boxes share; its height or width is 0 where they share nothing."""
    top, left = max(first[0], second[0]), max(first[1], second[1])
    bottom = min(first[0] + first[2], second[0] + second[2])
    right = min(first[1] + first[3], second[1] + second[3])
    return top, left, max(bottom - top, 0), max(right - left, 0)


def overlap_text(boxes: list[Box]) -> str:
    if len(boxes) < 2:
        return ""
    share = overlap(boxes[0], boxes[1])
    return "crops share nothing" if share == 0 else f"crops share {max(share, 0.01):.0%}"


def describe(table: Table, line: int) -> str:
    """The operations of a drawn row in words."""
    row = table[line]
    words = (
        ("flip", row["flip"] == 1),
        ("colour", row["order"][0] >= 0),
        ("grey", row["grey"] == 1),
        (f"blur {row['sigma']:.1f}", row["sigma"] > 0),
        ("solarise", row["solarise"] == 1),
    )
    return ", ".join(word for word, applied in words if applied) or "crop only"


def box_of(table: Table, line: int) -> Box:
    row = table[line]
    return int(row["top"]), int(row["left"]), int(row["height"]), int(row["width"])


def mark_crops(image: Pixels, boxes: list[Box]) -> Image.Image:
    """The image within a cell: crops outlined, the rest faded, the shared part tinted."""
    from PIL import Image, ImageDraw

    scale = CELL / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = np.array(Image.fromarray(np.ascontiguousarray(image)).resize((width, height)))
    scaled = [_scaled(box, scale) for box in boxes]
    covered = np.zeros((height, width, 1), bool)
    for box in scaled:
        covered[_window(box)] = True
    marked = np.where(covered, small, small // 3 + 170)
    if len(scaled) > 1:
        window = _window(intersection(scaled[0], scaled[1]))
        marked[window] = (0.72 * marked[window] + 0.28 * np.array(SHARED)).astype(np.uint8)
    picture = Image.fromarray(marked.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for slot, (top, left, tall, wide) in enumerate(scaled):
        corners = (left, top, max(left + wide - 1, left), max(top + tall - 1, top))
        pen.rectangle(corners, outline=SLOTS[slot % len(SLOTS)], width=3)
    return picture


def _scaled(box: Box, scale: float) -> Box:
    top, left, height, width = box
    y, x = round(top * scale), round(left * scale)
    return y, x, round((top + height) * scale) - y, round((left + width) * scale) - x


def _window(box: Box) -> tuple[slice, slice]:
    return slice(box[0], box[0] + box[2]), slice(box[1], box[1] + box[3])


def place(
    sheet: Image.Image,
    picture: Image.Image,
    left: int,
    top: int,
    text: str,
    frame: tuple[int, int, int] | None,
) -> None:
    """Put a picture, scaled to fit, into a cell with its caption; a view is framed by its slot."""
    from PIL import Image, ImageDraw, ImageFont

    inside = CELL - (2 * FRAME if frame else 0)
    scale = inside / max(picture.size)
    if scale != 1:
        # Few pixels are shown as they are; many are averaged.
        how = Image.Resampling.NEAREST if scale > 1.5 else Image.Resampling.LANCZOS
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, how)
    pen = ImageDraw.Draw(sheet)
    if frame:
        pen.rectangle((left, top, left + CELL - 1, top + CELL - 1), fill=frame)
    corner = (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2)
    sheet.paste(picture, corner)
    colour = FAINT if frame else INK
    font = ImageFont.load_default(13)
    pen.text((left + CELL / 2, top + CELL + 6), text, fill=colour, font=font, anchor="ma")


def levels(views: npt.NDArray[np.float32], spec: ViewSpec) -> Pixels:
    """Float views [B, 3, S, S] as uint8 [B, S, S, 3], their normalisation undone."""
    if spec.mean is not None and spec.std is not None:
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
        views = views * std + mean
    whole = np.rint(views.clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(whole.transpose(0, 2, 3, 1))
