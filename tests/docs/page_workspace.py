"""The folder in which the blocks of a page run: pictures under the names that the pages use."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "detection"))

from drawn_boxes import write_coco, write_voc

CLASSES = ("cat", "dog", "bird")


def draw(path: Path, kind: int, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    """A photograph for a test: coarse noise whose brightest corner is its class."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 180, (4, 4, 3), dtype=np.uint8)
    coarse[kind, kind] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    image.save(path, **({"quality": 90} if path.suffix == ".jpg" else {}))


def lay_out(folder: Path) -> None:
    """photos/ without labels; labeled/, test/ and held-out/ with; new/ and single files."""
    for number in range(60):
        draw(folder / "photos" / f"IMG_{number:04d}.jpg", number % 3, number)
    for part, count, seed in (("labeled", 16, 1_000), ("test", 8, 2_000), ("held-out", 8, 3_000)):
        for number in range(count * len(CLASSES)):
            name = CLASSES[number % 3]
            draw(folder / part / name / f"{number:03d}.jpg", number % 3, seed + number)
    for number in range(12):
        draw(folder / "new" / f"new_{number}.jpg", number % 3, 4_000 + number)
        draw(folder / "textures" / f"{number}.png", 0, 5_000 + number, (24, 24))
    (folder / "done.csv").write_text("name\nIMG_0000.jpg\nIMG_0001.jpg\n")
    write_coco(folder / "data" / "coco")
    write_voc(folder / "data" / "voc")
    for number, name in enumerate((*CLASSES, "cap", "dress", "gown")):
        draw(folder / f"{name}.jpg", number % 3, 6_000 + number)
