"""A contact sheet: the views of a few images, and how much of an image they share."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from coview.core.errors import InvalidValue
from coview.core.files import write_bytes
from coview.core.images import OWN_PICTURE, ImageStore
from coview.views.multi_pass.auto_augment import OPERATIONS
from coview.views.parameters import FULL_ROW
from coview.views.plan import ORDERED, ViewPlan, ViewSpec
from coview.views.render import render
from coview.views.sample import sample_params

if TYPE_CHECKING:
    from PIL import Image, ImageFont

CELL, GAP, CAPTION, MARGIN, FRAME = 216, 18, 26, 28, 4
HEADING, LEGEND = 26, 24
TEXT, LINE = 13, 17  # size of captions in points, and the distance of their lines in pixels
INK, FAINT, PAPER = (34, 34, 38), (110, 110, 118), (255, 255, 255)
IN_ONE, IN_NONE = 0.55, 0.2  # opacity of what one crop contains, and of what none contains
VIEW_COLORS = (
    (222, 94, 20), (31, 119, 180), (56, 142, 60), (142, 68, 173), (183, 149, 11),
    (0, 131, 143), (194, 24, 91), (109, 76, 65), (84, 110, 122), (104, 159, 56),
)  # fmt: skip

Box = tuple[int, int, int, int]
Pixels = npt.NDArray[np.uint8]


def contact_sheet(
    store: ImageStore, rows: npt.NDArray[np.int64], plan: ViewPlan, path: Path, *, seed: int
) -> None:
    """Write a PNG with one line per image: the original with its crops, then every view.

    Views are those of epoch 0; a smaller view is shown smaller. The intersection of the first two
    crops keeps its colors, and the caption gives their intersection over union; the rest of the
    two crops is paler, everything else paler still. The caption of a view lists its operations.
    Raises InvalidValue without images.

    >>> import tempfile
    >>> from coview.core.images import store_from_arrays
    >>> store = store_from_arrays(np.zeros((1, 16, 16, 3), np.uint8))
    >>> plan = ViewPlan(views=(ViewSpec(size=16),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     contact_sheet(store, np.array([0]), plan, Path(folder) / "views.png", seed=0)
    ...     (Path(folder) / "views.png").exists()
    True
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    rows = np.asarray(rows, dtype=np.int64)
    if len(rows) == 0:
        raise InvalidValue("`rows` is empty; a contact sheet needs at least one image.")
    ids, shapes = store.ids[rows], (store.heights[rows], store.widths[rows])
    params = [
        sample_params(spec, ids, *shapes, seed=seed, epoch=0, view=view)
        for view, spec in enumerate(plan.views)
    ]
    views = [
        to_uint8(render(store, rows, numbers, spec).numpy(), spec)
        for numbers, spec in zip(params, plan.views, strict=True)
    ]
    captions = [
        [
            wrap_caption(describe_operations(numbers[line], getattr(spec, "order", ORDERED)))
            for numbers, spec in zip(params, plan.views, strict=True)
        ]
        for line in range(len(rows))
    ]
    longest = max(len(text.splitlines()) for line in captions for text in line)
    below = CAPTION + (longest - 1) * LINE
    step = CELL + GAP
    width = 2 * MARGIN + (1 + len(views)) * step - GAP
    height = 2 * MARGIN + HEADING + len(rows) * (step + below) - GAP + LEGEND
    sheet = Image.new("RGB", (width, height), PAPER)
    write_headings(sheet, plan)
    sizes = shown_sizes(plan)
    for line, row in enumerate(rows):
        top = MARGIN + HEADING + line * (step + below)
        boxes = [crop_box(numbers[line]) for numbers in params]
        original = mark_crops(store.image(int(row)), boxes)
        paste_with_caption(sheet, original, MARGIN, top, describe_overlap(boxes))
        for view, pictures in enumerate(views):
            left = MARGIN + (1 + view) * step
            picture = frame_view(Image.fromarray(pictures[line]), sizes[view], view_color(view))
            paste_with_caption(sheet, picture, left, top, captions[line][view], FAINT)
    stream = io.BytesIO()
    about = PngInfo()
    about.add_text(*OWN_PICTURE)
    sheet.save(stream, format="PNG", pnginfo=about)
    write_bytes(Path(path), stream.getvalue())


def shown_sizes(plan: ViewPlan) -> list[int]:
    """Side of each view on the sheet, in pixels; the largest fills its cell."""
    largest = max(spec.size for spec in plan.views)
    inside = CELL - 2 * FRAME
    return [max(1, round(inside * spec.size / largest)) for spec in plan.views]


def column_headings(plan: ViewPlan) -> list[str]:
    """The words above the columns, with the sizes of views if they differ."""
    crops = "image and its crop" if len(plan.views) == 1 else "image and its crops"
    names = [f"view {view + 1}" for view in range(len(plan.views))]
    if len({spec.size for spec in plan.views}) > 1:
        names = [f"{name}, {spec.size} px" for name, spec in zip(names, plan.views, strict=True)]
    return [crops, *names]


def write_headings(sheet: Image.Image, plan: ViewPlan) -> None:
    """Write the heading of each column, and below the sheet how to read the first column."""
    from PIL import ImageDraw

    pen, views = ImageDraw.Draw(sheet), len(plan.views)
    for column, text in enumerate(column_headings(plan)):
        center = MARGIN + column * (CELL + GAP) + CELL / 2
        color = INK if column == 0 else view_color(column - 1)
        pen.text((center, MARGIN - 4), text, fill=color, font=load_font(15), anchor="ma")
    if views > 1:
        both = "both crops" if views == 2 else "crops 1 and 2"
        text = f"Full color: in {both}. Percentage: intersection over union of {both}."
        at = (sheet.width / 2, sheet.height - MARGIN + 6)
        pen.text(at, text, fill=FAINT, font=load_font(TEXT), anchor="ms")


@lru_cache(maxsize=4)
def load_font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def view_color(view: int) -> tuple[int, int, int]:
    return VIEW_COLORS[view % len(VIEW_COLORS)]


def box_iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes (top, left, height, width)."""
    shared = intersect_boxes(first, second)
    both = shared[2] * shared[3]
    return both / (first[2] * first[3] + second[2] * second[3] - both)


def intersect_boxes(first: Box, second: Box) -> Box:
    """The intersection of two boxes; its height or width is 0 if they are disjoint."""
    top, left = max(first[0], second[0]), max(first[1], second[1])
    bottom = min(first[0] + first[2], second[0] + second[2])
    right = min(first[1] + first[3], second[1] + second[3])
    return top, left, max(bottom - top, 0), max(right - left, 0)


def describe_overlap(boxes: list[Box]) -> str:
    if len(boxes) < 2:
        return ""
    share = box_iou(boxes[0], boxes[1])
    return "crops are disjoint" if share == 0 else f"crops overlap {max(share, 0.01):.0%}"


def describe_operations(row: np.void, order: Sequence[str] = ORDERED) -> str:
    """The operations of a row of parameters in words, in the ``order`` in which they run."""
    words: dict[str, list[str]] = {
        "augment": describe_augmentations(row),
        "jitter": ["color"] if row["order"][0] >= 0 else [],
        "grayscale": ["grayscale"] if row["grayscale"] == 1 else [],
        "blur": [f"blur {row['sigma']:.1f}"] if row["sigma"] > 0 else [],
        "solarize": ["solarize"] if row["solarize"] == 1 else [],
    }
    if row.dtype == FULL_ROW:
        words |= {
            "second_crop": ["crop"] if row["inner"][2] > 0 else [],
            "rotate90": [f"rotate {90 * row['rotate90']}"] if row["rotate90"] > 0 else [],
            "sobel": ["Sobel"] if row["sobel"] == 1 else [],
            "noise": [f"noise {row['noise']:.2f}"] if row["noise"] > 0 else [],
            "cutout": ["cutout"] if row["cut_height"] > 0 else [],
        }
    flip = ["flip"] if row["flip"] == 1 else []
    return ", ".join([*flip, *(word for name in order for word in words.get(name, []))]) or (
        "crop only"
    )


def describe_augmentations(row: np.void) -> list[str]:
    """The operations of AutoAugment or RandAugment, with their magnitudes."""
    if row.dtype != FULL_ROW:
        return []
    operations = zip(row["operation"].tolist(), row["magnitude"].tolist(), strict=True)
    return [
        f"{OPERATIONS[number]} {magnitude:.2g}" if magnitude else OPERATIONS[number]
        for number, magnitude in operations
        if number > 0
    ]


def wrap_caption(text: str) -> str:
    """A caption broken after commas into lines that fit into a cell."""
    lines = [""]
    for word in text.split(", "):
        longer = f"{lines[-1]}, {word}" if lines[-1] else word
        if lines[-1] and load_font(TEXT).getlength(f"{longer},") > CELL:
            lines[-1] += ","
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def crop_box(row: np.void) -> Box:
    """(top, left, height, width) of a row of parameters, in source pixels."""
    return int(row["top"]), int(row["left"]), int(row["height"]), int(row["width"])


def mark_crops(image: Pixels, boxes: list[Box]) -> Image.Image:
    """The image at the size of a cell: crops outlined, pixels in fewer of the first two paler."""
    from PIL import Image, ImageDraw

    small = fit_to_side(Image.fromarray(np.ascontiguousarray(image)), CELL)
    scale = CELL / max(image.shape[:2])
    scaled = [_scale_box(box, scale) for box in boxes]
    shown = np.full((small.height, small.width, 1), IN_NONE)
    for box in scaled:
        shown[_box_slices(box)] = IN_ONE
    shared = scaled[0] if len(scaled) == 1 else intersect_boxes(scaled[0], scaled[1])
    shown[_box_slices(shared)] = 1.0
    picture = Image.fromarray((shown * small + (1 - shown) * 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for view, (top, left, height, width) in enumerate(scaled):
        corners = (left, top, max(left + width - 1, left), max(top + height - 1, top))
        pen.rectangle(corners, outline=view_color(view), width=3)
    return picture


def fit_to_side(picture: Image.Image, side: int) -> Image.Image:
    """The picture with its longer side of ``side`` pixels."""
    from PIL import Image

    scale = side / max(picture.size)
    # Enlarged pixels stay visible as squares; many pixels are averaged.
    resample = Image.Resampling.NEAREST if scale > 1.5 else Image.Resampling.LANCZOS
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture if scale == 1 else picture.resize((width, height), resample)


def _scale_box(box: Box, scale: float) -> Box:
    top, left, height, width = box
    y, x = round(top * scale), round(left * scale)
    return y, x, round((top + height) * scale) - y, round((left + width) * scale) - x


def _box_slices(box: Box) -> tuple[slice, slice]:
    return slice(box[0], box[0] + box[2]), slice(box[1], box[1] + box[3])


def frame_view(picture: Image.Image, side: int, color: tuple[int, int, int]) -> Image.Image:
    """A view of ``side`` pixels within a frame in the color of its view."""
    from PIL import Image

    outer = side + 2 * FRAME
    frame = Image.new("RGB", (outer, outer), color)
    frame.paste(fit_to_side(picture, side), (FRAME, FRAME))
    return frame


def paste_with_caption(
    sheet: Image.Image, picture: Image.Image, left: int, top: int, text: str,
    color: tuple[int, int, int] = INK,
) -> None:  # fmt: skip
    """Paste a picture into the middle of a cell, and write its caption below."""
    from PIL import ImageDraw

    sheet.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))
    at = (left + CELL / 2, top + CELL + 6)
    pen = ImageDraw.Draw(sheet)
    pen.text(at, text, fill=color, font=load_font(TEXT), anchor="ma", align="center", spacing=3)


def to_uint8(views: npt.NDArray[np.float32], spec: ViewSpec) -> Pixels:
    """Float views [B, 3, S, S] as uint8 [B, S, S, 3], without their normalization."""
    plain = spec.unnormalize(torch.from_numpy(views)).numpy()
    values = np.rint(plain.clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1))
