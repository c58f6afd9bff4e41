"""Small annotated images: bright rectangles and ellipses on a dark ground, in COCO's and VOC's layout."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

NAMES = ("rectangle", "ellipse")


def draw(seed, size=(64, 48), most=3):
    """(an image, [(class, x1, y1, x2, y2)], a label map)."""
    generator = np.random.default_rng(seed)
    width, height = size
    image = Image.fromarray(generator.integers(0, 60, (height, width, 3), dtype=np.uint8))
    labels = Image.new("L", size, 0)
    objects = []
    for _ in range(int(generator.integers(1, most + 1))):
        w, h = generator.integers(14, 26, 2)
        x, y = int(generator.integers(0, width - w)), int(generator.integers(0, height - h))
        kind = int(generator.integers(2))
        box = [x, y, x + int(w) - 1, y + int(h) - 1]
        color = ((255, 80, 40), (60, 120, 255))[kind]
        for canvas, fill in ((image, color), (labels, kind + 1)):
            pen = ImageDraw.Draw(canvas)
            (pen.rectangle if kind == 0 else pen.ellipse)(box, fill=fill)
        objects.append((kind, x, y, x + int(w), y + int(h)))
    return image, objects, labels


def polygon(kind, x1, y1, x2, y2):
    if kind == 0:
        return [[x1, y1, x2, y1, x2, y2, x1, y2]]
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    cx, cy, rx, ry = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2
    return [
        np.stack([cx + rx * np.cos(angles), cy + ry * np.sin(angles)], 1).round(2).ravel().tolist()
    ]


def write_coco(root: Path, train=12, val=6, size=(64, 48)):
    """A folder in COCO's layout with parts train2017 and val2017."""
    (root / "annotations").mkdir(parents=True)
    for part, count, first in (("train2017", train, 0), ("val2017", val, 1000)):
        (root / part).mkdir()
        images, annotations = [], []
        for number in range(count):
            image, objects, _ = draw(first + number, size)
            image.save(root / part / f"{number}.png")
            images.append(
                {
                    "id": 10 + number,
                    "file_name": f"{number}.png",
                    "width": size[0],
                    "height": size[1],
                }
            )
            for kind, x1, y1, x2, y2 in objects:
                annotations.append({
                    "id": len(annotations) + 1, "image_id": 10 + number, "category_id": 7 + 2 * kind,
                    "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
                    "segmentation": polygon(kind, x1, y1, x2, y2),
                })  # fmt: skip
        content = {"images": images, "annotations": annotations,
                   "categories": [{"id": 7 + 2 * k, "name": name} for k, name in enumerate(NAMES)]}  # fmt: skip
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return root


def write_voc(root: Path, train=8, test=4, size=(64, 48)):
    """A folder in VOC's layout: boxes, and label maps."""
    for name in (
        "JPEGImages",
        "Annotations",
        "SegmentationClass",
        "ImageSets/Main",
        "ImageSets/Segmentation",
    ):
        (root / name).mkdir(parents=True)
    names = {"trainval": range(train), "test": range(100, 100 + test)}
    for part, numbers in names.items():
        for number in numbers:
            image, objects, labels = draw(number, size)
            image.save(root / "JPEGImages" / f"{number:06d}.jpg", quality=95)
            labels.save(root / "SegmentationClass" / f"{number:06d}.png")
            items = "".join(
                f"<object><name>{NAMES[kind]}</name><difficult>{int(n == 1)}</difficult><bndbox><xmin>{x1 + 1}</xmin>"
                f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
                for n, (kind, x1, y1, x2, y2) in enumerate(objects)
            )
            (root / "Annotations" / f"{number:06d}.xml").write_text(
                f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
                f"{items}</annotation>"
            )
        lines = "".join(f"{number:06d}\n" for number in numbers)
        for kind in ("Main", "Segmentation"):
            (root / "ImageSets" / kind / f"{part}.txt").write_text(lines)
    return root
