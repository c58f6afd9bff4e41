"""A contact sheet: what the model will see of a few images, and how much its views share."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.files import write_bytes
from coview.core.images import ImageStore
from coview.views.multi_pass.auto_augment import OPERATIONS
from coview.views.parameters import FULL_ROW, Table
from coview.views.plan import ViewPlan, ViewSpec
from coview.views.render import render
from coview.views.sample import sample_params

if TYPE_CHECKING:
    from PIL import Image, ImageFont

CELL, GAP, CAPTION, MARGIN, FRAME = 216, 18, 26, 28, 4
HEADING, LEGEND = 26, 24
TEXT, LINE = 13, 17  # size of captions in points, and how far their lines are apart
INK, FAINT, PAPER = (34, 34, 38), (110, 110, 118), (255, 255, 255)
IN_ONE, IN_NONE = 0.55, 0.2  # how much of the image shows through where not both crops see it
SLOTS = (
    (222, 94, 20), (31, 119, 180), (56, 142, 60), (142, 68, 173), (183, 149, 11),
    (0, 131, 143), (194, 24, 91), (109, 76, 65), (84, 110, 122), (104, 159, 56),
)  # fmt: skip

Box = tuple[int, int, int, int]
Pixels = npt.NDArray[np.uint8]


def contact_sheet(
    store: ImageStore, rows: npt.NDArray[np.int64], plan: ViewPlan, path: Path, *, seed: int
) -> None:
    """Write a PNG with one line per image: the original with its crops, then every view.

    Views are those of epoch 0; where sizes differ, a smaller view is shown smaller. What the first
    two crops share keeps its colors and is told as intersection over union; what one of them sees
    is paler, the rest paler still. Under each view stands what was done to it. Raises InvalidValue
    without images.
    """
    from PIL import Image

    rows = np.asarray(rows, dtype=np.int64)
    if len(rows) == 0:
        raise InvalidValue("A contact sheet needs at least one image; give some rows.")
    sizes = store.heights[rows], store.widths[rows]
    tables = [
        sample_params(spec, store.ids[rows], *sizes, seed=seed, epoch=0, slot=slot)
        for slot, spec in enumerate(plan.views)
    ]
    views = [
        levels(render(store, rows, table, spec).numpy(), spec)
        for table, spec in zip(tables, plan.views, strict=True)
    ]
    captions = [[wrapped(describe(table, line)) for table in tables] for line in range(len(rows))]
    longest = max(len(text.splitlines()) for line in captions for text in line)
    below = CAPTION + (longest - 1) * LINE
    step = CELL + GAP
    width = 2 * MARGIN + (1 + len(views)) * step - GAP
    height = 2 * MARGIN + HEADING + len(rows) * (step + below) - GAP + LEGEND
    sheet = Image.new("RGB", (width, height), PAPER)
    write_words(sheet, plan)
    sides = shown_sides(plan)
    for line, row in enumerate(rows):
        top = MARGIN + HEADING + line * (step + below)
        boxes = [box_of(table, line) for table in tables]
        original = mark_crops(store.image(int(row)), boxes)
        place(sheet, original, MARGIN, top, overlap_text(boxes))
        for slot, pictures in enumerate(views):
            left = MARGIN + (1 + slot) * step
            picture = framed(Image.fromarray(pictures[line]), sides[slot], color_of(slot))
            place(sheet, picture, left, top, captions[line][slot], FAINT)
    stream = io.BytesIO()
    sheet.save(stream, format="PNG")
    write_bytes(Path(path), stream.getvalue())


def shown_sides(plan: ViewPlan) -> list[int]:
    """Side of each view on the sheet: the largest fills its cell, the others keep proportion."""
    largest = max(spec.size for spec in plan.views)
    room = CELL - 2 * FRAME
    return [max(1, round(room * spec.size / largest)) for spec in plan.views]


def headings(plan: ViewPlan) -> list[str]:
    """The words above the columns; sizes are told where they differ."""
    crops = "image and its crop" if len(plan.views) == 1 else "image and its crops"
    names = [f"view {slot + 1}" for slot in range(len(plan.views))]
    if len({spec.size for spec in plan.views}) > 1:
        names = [f"{name}, {spec.size} px" for name, spec in zip(names, plan.views, strict=True)]
    return [crops, *names]


def write_words(sheet: Image.Image, plan: ViewPlan) -> None:
    """The heading of each column, and below all how to read the first one."""
    from PIL import ImageDraw

    pen, views = ImageDraw.Draw(sheet), len(plan.views)
    for column, text in enumerate(headings(plan)):
        center = MARGIN + column * (CELL + GAP) + CELL / 2
        color = INK if column == 0 else color_of(column - 1)
        pen.text((center, MARGIN - 4), text, fill=color, font=font(15), anchor="ma")
    if views > 1:
        both = "both crops" if views == 2 else "crops 1 and 2"
        text = f"Full color: seen by {both}. Per cent: their shared part of all that they see."
        at = (sheet.width / 2, sheet.height - MARGIN + 6)
        pen.text(at, text, fill=FAINT, font=font(TEXT), anchor="ms")


@lru_cache(maxsize=4)
def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def color_of(slot: int) -> tuple[int, int, int]:
    return SLOTS[slot % len(SLOTS)]


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
    """The operations of a drawn row in words, in the order in which they run."""
    row = table[line]
    words = [
        ("flip", row["flip"] == 1),
        *((name, True) for name in augmentations(row)),
        ("color", row["order"][0] >= 0),
        ("gray", row["gray"] == 1),
        (f"blur {row['sigma']:.1f}", row["sigma"] > 0),
        ("solarize", row["solarize"] == 1),
    ]
    if table.dtype == FULL_ROW:
        words += [
            (f"turn {90 * row['turns']}", row["turns"] > 0),
            ("Sobel", row["sobel"] == 1),
            (f"noise {row['noise']:.2f}", row["noise"] > 0),
            ("cutout", row["cut_height"] > 0),
        ]
    return ", ".join(word for word, applied in words if applied) or "crop only"


def augmentations(row: np.void) -> list[str]:
    """What AutoAugment or RandAugment does to the view, with strengths where they have one."""
    if row.dtype != FULL_ROW:
        return []
    drawn = zip(row["operation"].tolist(), row["magnitude"].tolist(), strict=True)
    return [
        f"{OPERATIONS[number]} {magnitude:.2g}" if magnitude else OPERATIONS[number]
        for number, magnitude in drawn
        if number > 0
    ]


def wrapped(text: str) -> str:
    """A caption broken after commas into lines that fit a cell."""
    lines = [""]
    for word in text.split(", "):
        longer = f"{lines[-1]}, {word}" if lines[-1] else word
        if lines[-1] and font(TEXT).getlength(longer) > CELL:
            lines[-1] += ","
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def box_of(table: Table, line: int) -> Box:
    row = table[line]
    return int(row["top"]), int(row["left"]), int(row["height"]), int(row["width"])


def mark_crops(image: Pixels, boxes: list[Box]) -> Image.Image:
    """The image within a cell: crops outlined, and paler the fewer of the first two see it."""
    from PIL import Image, ImageDraw

    small = fitted(Image.fromarray(np.ascontiguousarray(image)), CELL)
    scale = CELL / max(image.shape[:2])
    scaled = [_scaled(box, scale) for box in boxes]
    shown = np.full((small.height, small.width, 1), IN_NONE)
    for box in scaled:
        shown[_window(box)] = IN_ONE
    shared = scaled[0] if len(scaled) == 1 else intersection(scaled[0], scaled[1])
    shown[_window(shared)] = 1.0
    picture = Image.fromarray((shown * small + (1 - shown) * 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for slot, (top, left, tall, wide) in enumerate(scaled):
        corners = (left, top, max(left + wide - 1, left), max(top + tall - 1, top))
        pen.rectangle(corners, outline=color_of(slot), width=3)
    return picture


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """The picture with its longer side of ``side`` pixels."""
    from PIL import Image

    scale = side / max(picture.size)
    # Few pixels are shown as they are; many are averaged.
    how = Image.Resampling.NEAREST if scale > 1.5 else Image.Resampling.LANCZOS
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture if scale == 1 else picture.resize((width, height), how)


def _scaled(box: Box, scale: float) -> Box:
    top, left, height, width = box
    y, x = round(top * scale), round(left * scale)
    return y, x, round((top + height) * scale) - y, round((left + width) * scale) - x


def _window(box: Box) -> tuple[slice, slice]:
    return slice(box[0], box[0] + box[2]), slice(box[1], box[1] + box[3])


def framed(picture: Image.Image, side: int, color: tuple[int, int, int]) -> Image.Image:
    """A view of ``side`` pixels within a frame in its slot's color."""
    from PIL import Image

    whole = side + 2 * FRAME
    frame = Image.new("RGB", (whole, whole), color)
    frame.paste(fitted(picture, side), (FRAME, FRAME))
    return frame


def place(
    sheet: Image.Image,
    picture: Image.Image,
    left: int,
    top: int,
    text: str,
    color: tuple[int, int, int] = INK,
) -> None:
    """Put a picture into the middle of a cell, and its caption below."""
    from PIL import ImageDraw

    sheet.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))
    at = (left + CELL / 2, top + CELL + 6)
    pen = ImageDraw.Draw(sheet)
    pen.text(at, text, fill=color, font=font(TEXT), anchor="ma", align="center", spacing=3)


def levels(views: npt.NDArray[np.float32], spec: ViewSpec) -> Pixels:
    """Float views [B, 3, S, S] as uint8 [B, S, S, 3], their normalization undone."""
    if spec.mean is not None and spec.std is not None:
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
        views = views * std + mean
    whole = np.rint(views.clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(whole.transpose(0, 2, 3, 1))
