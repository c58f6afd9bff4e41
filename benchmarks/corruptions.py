"""Our corruptions beside the published scripts, given the same images and random numbers.

    python benchmarks/corruptions.py SCRIPTS CIFAR_TEST.parquet PHOTOS

SCRIPTS: the folder of make_cifar_c.py, make_tinyimagenet_c.py and make_imagenet_c.py, published
with Hendrycks and Dietterich 2019, and of the photographs frost1.png to frost6.jpg; run it from
there, since a script looks for them so. They need opencv-python, scikit-image, wand and
ImageMagick. The part of each script that defines the corruptions is executed, with names that newer
libraries have renamed; the random functions of numpy are replaced by ones that return our numbers.
Impulse noise (which takes its numbers from scikit-image) and frost (which takes photographs) are
compared by how much they change. Differences are in levels of 0 to 255.
"""

from __future__ import annotations

import argparse
import re
import types
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import poisson

from coview.data import open_images
from coview.evaluation.corrupted_images import FILE_NAMES, central_squares
from coview.evaluation.corruptions import CORRUPTIONS, SCALES, SEVERITIES, Scale, corrupt
from coview.evaluation.corruptions.draws import Draws
from setting import setting

SCRIPTS = ("make_cifar_c.py", "make_tinyimagenet_c.py", "make_imagenet_c.py")
COUNTS = (40, 12, 4)
SEED = 5
END = re.compile(r"# /+ End Distortions /+")
RENAMED = {
    "multichannel=True": "channel_axis=-1", "np.float_": "np.float64",
    "np.fromstring": "np.frombuffer", "scipy.ndimage.interpolation": "scipy.ndimage",
    "(data.Dataset)": "",
}  # fmt: skip
BY_CHANGE = ("impulse_noise", "frost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scripts", type=Path)
    parser.add_argument("cifar")
    parser.add_argument("photos")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"corruptions: {setting()}\n")
    for scale, script, count in zip(SCALES, SCRIPTS, COUNTS, strict=True):
        store = open_images(given.cifar if scale.size == 32 else given.photos, limit=count)
        images = central_squares(store, scale.size)
        compare(load(given.scripts / script), replace(scale, jpeg_quality=None), images)


def load(path: Path) -> types.ModuleType:
    """The part of a published script that defines the corruptions."""
    text = END.split(path.read_text())[0]
    text = re.sub(r"^(import|from) torch.*$", "", text, flags=re.MULTILINE)
    for old, new in RENAMED.items():
        text = text.replace(old, new)
    module = types.ModuleType(path.stem)
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def compare(script: types.ModuleType, scale: Scale, images: np.ndarray) -> None:
    ids = np.arange(len(images)) * 7 + 3
    print(f"\n{scale.name}, {len(images)} images of {scale.size} pixels\n")
    print("| corruption | " + " | ".join(map(str, SEVERITIES)) + " |\n|---|" + "---|" * 5)
    for name in CORRUPTIONS:
        cells = []
        for severity in SEVERITIES:
            ours = corrupt(images, ids, name, severity, seed=SEED, scale=scale).astype(int)
            key = 8 * list(CORRUPTIONS).index(name) + severity
            draws = Draws(ids=ids, seed=SEED, key=key)
            numbers = numbers_of(name, scale, severity, draws)
            theirs = [
                published(script, name, severity, image, numbers, row)
                for row, image in enumerate(images)
            ]
            cells.append(difference(name, images.astype(int), ours, np.stack(theirs).astype(int)))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def difference(name: str, images: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> str:
    if name in BY_CHANGE:
        change = [np.abs(made - images).mean() for made in (ours, theirs)]
        return f"changes by {change[0]:.1f} (script {change[1]:.1f})"
    gap = np.abs(ours - theirs)
    if gap.max() == 0:
        return "equal"
    return f"at most {gap.max()}, more than 1 in {100 * (gap > 1).mean():.3f} %"


def numbers_of(name: str, scale: Scale, severity: int, draws: Draws) -> Any:
    """The random numbers of our corruption, for all images."""
    size, strength = scale.size, scale.strengths[name][severity - 1]
    side = 1 << (size - 1).bit_length()
    inner = size - 2 * int(strength[1]) if name == "glass_blur" else 0
    made: dict[str, Any] = {
        "gaussian_noise": lambda: draws.normal(size, size, 3),
        "shot_noise": lambda: draws.uniform(size, size, 3),
        "motion_blur": lambda: 90 * draws.uniform(1)[:, 0] - 45,
        "snow": lambda: (draws.normal(size, size), 90 * draws.uniform(1, part=1)[:, 0] - 135),
        "fog": lambda: draws.uniform(side * side),
        "elastic": lambda: (draws.uniform(3, 2), draws.uniform(2, size, size, part=1)),
        "glass_blur": lambda: [
            draws.uniform(2, inner, inner, part=part) for part in range(int(strength[2]))
        ],
    }
    return made[name]() if name in made else None


def published(
    script: types.ModuleType, name: str, severity: int, image: np.ndarray, numbers: Any, row: int
) -> np.ndarray:
    """The script's corruption of one image, with numpy's random functions replaced."""
    kept = {each: getattr(np.random, each) for each in ("normal", "uniform", "poisson", "randint")}
    try:
        for function, stand_in in stand_ins(name, numbers, row).items():
            setattr(np.random, function, stand_in)
        corruption = getattr(script, FILE_NAMES.get(name, name))
        return np.uint8(np.asarray(corruption(Image.fromarray(image), severity)))
    finally:
        for function, original in kept.items():
            setattr(np.random, function, original)


def stand_ins(name: str, numbers: Any, row: int) -> dict[str, Any]:
    """Functions that return our numbers of image ``row`` in the order of the script's calls."""
    if name == "gaussian_noise":
        return {"normal": lambda size, scale: scale * numbers[row]}
    if name == "shot_noise":
        return {"poisson": lambda mean: poisson.ppf(numbers[row], mean).clip(0)}
    if name == "motion_blur":
        return {"uniform": lambda low, high: numbers[row]}
    if name == "snow":
        flakes, angles = numbers
        return {
            "normal": lambda size, loc, scale: loc + scale * flakes[row],
            "uniform": lambda low, high: angles[row],
        }
    if name == "fog":
        rest = iter(numbers[row][1:])
        return {
            "uniform": lambda low, high, shape: (
                low
                + (high - low)
                * np.array([next(rest) for _ in range(np.prod(shape))]).reshape(shape)
            )
        }
    if name == "elastic":
        corners, shifts = numbers
        calls = iter([corners[row], *shifts[row]])
        return {"uniform": lambda low, high, size: low + (high - low) * next(calls)}
    if name == "glass_blur":
        pairs = (pair for part in numbers for pair in part[row].reshape(2, -1).T)

        def randint(low: int, high: int, size: Any) -> np.ndarray:
            down, right = np.floor(next(pairs) * (high - low)).astype(int) + low
            return np.array([right, down])

        return {"randint": randint}
    return {}


if __name__ == "__main__":
    main()
