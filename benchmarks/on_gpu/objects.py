"""Generated images with objects: bright rectangles and ellipses on a dark ground."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

NAMES = ("rectangle", "ellipse")
COLORS = ((255, 80, 40), (60, 120, 255))
Object = tuple[int, int, int, int, int]
"""The class, then left, top, right and bottom."""


def draw(seed: int, side: int) -> tuple[Image.Image, list[Object], Image.Image]:
    """An image of up to three objects, these, and the class of every pixel (0 is the ground)."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 60, (side, side * 4 // 3, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    labels, objects = Image.new("L", image.size, 0), []
    for _ in range(int(generator.integers(1, 4))):
        width, height = (int(n) for n in generator.integers(side // 4, side // 2, 2))
        left = int(generator.integers(0, image.size[0] - width))
        top = int(generator.integers(0, side - height))
        kind = int(generator.integers(len(NAMES)))
        for canvas, fill in ((image, COLORS[kind]), (labels, kind + 1)):
            pen = ImageDraw.Draw(canvas)
            shape = pen.rectangle if kind == 0 else pen.ellipse
            shape([left, top, left + width - 1, top + height - 1], fill=fill)
        objects.append((kind, left, top, left + width, top + height))
    return image, objects, labels


def write_boxes(root: Path, side: int, *, train: int, test: int) -> Path:
    """A folder in COCO's layout, with outlines."""
    (root / "annotations").mkdir(parents=True)
    for part, count, first in (("train", train, 0), ("val", test, 10_000)):
        (root / part).mkdir()
        images, annotations = [], []
        for number in range(count):
            image, objects, _ = draw(first + number, side)
            image.save(root / part / f"{number}.png")
            size = {"width": image.size[0], "height": image.size[1]}
            images.append({"id": number, "file_name": f"{number}.png", **size})
            for kind, *box in objects:
                left, top, right, bottom = box
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number, "category_id": kind + 1,
                    "bbox": [left, top, right - left, bottom - top], "iscrowd": 0,
                    "area": (right - left) * (bottom - top), "segmentation": [outline(kind, *box)],
                })  # fmt: skip
        content = {
            "images": images, "annotations": annotations,
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)],
        }  # fmt: skip
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return root


def outline(kind: int, left: int, top: int, right: int, bottom: int) -> list[float]:
    """x and y of the corners of a polygon, one after the other."""
    if kind == 0:
        return [left, top, right, top, right, bottom, left, bottom]
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    x = (left + right + (right - left) * np.cos(angles)) / 2
    y = (top + bottom + (bottom - top) * np.sin(angles)) / 2
    points: list[float] = np.stack([x, y], 1).ravel().tolist()
    return points


def write_maps(root: Path, side: int, *, train: int, test: int) -> Path:
    """A folder of images/ beside masks/."""
    for part, count, first in (("train", train, 0), ("val", test, 10_000)):
        for name in ("images", "masks"):
            (root / name / part).mkdir(parents=True)
        for number in range(count):
            image, _, labels = draw(first + number, side)
            image.save(root / "images" / part / f"{number}.png")
            labels.save(root / "masks" / part / f"{number}.png")
    (root / "classes.txt").write_text("\n".join(("ground", *NAMES)) + "\n")
    return root
