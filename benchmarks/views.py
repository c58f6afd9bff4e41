"""SimCLR views: ours beside torchvision's, lightly's and kornia's transforms, in one run.

    python benchmarks/views.py [--quick] [--photos FOLDER]

The policy is SimCLR's at 32 px (crop, flip, jitter, gray) and at 224 px (blur as well). All take
turns on the same images; a figure is the median of its turns, a ratio the median of the ratios
within a turn. Ours includes drawing the numbers and writes into four tensors in rotation, as a
training loop does. Peers run one thread; ours one and two. The last table starts from JPEG bytes
and makes two views of each image. FOLDER holds photographs to measure on; without it images are
made up, whose JPEG files are of a photograph's size. A package that is absent is left out.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image

from coview.core.images import ImageStore, pixel_hashes, store_from_arrays
from coview.views import ViewPlan, simclr_views, views_of
from setting import setting

Turn = Callable[[], int]
"""Makes some views and tells how many."""

CASES = {
    "32 px from 32 x 32": (32, (32, 32), 512),
    "224 px from 256 x 341": (224, (256, 341), 64),
    "224 px from 400 x 534": (224, (400, 534), 64),
}


def pictures(shape: tuple[int, int], count: int, folder: Path | None) -> list[Image.Image]:
    height, width = shape
    if folder is not None:
        files = sorted(folder.rglob("*.jpg"))[:count]
        return [Image.open(file).convert("RGB").resize((width, height)) for file in files]
    generator, made = np.random.default_rng(0), []
    for _ in range(count):
        coarse = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height)), np.float32)
        noisy = smooth + generator.normal(0, 3, smooth.shape)
        made.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    return made


def store_of(images: list[Image.Image]) -> ImageStore:
    return store_from_arrays([np.asarray(image) for image in images])


def ours(images: list[Image.Image], size: int, batch: int, threads: int) -> Turn:
    store, plan = store_of(images), ViewPlan(views=simclr_views(size).views[:1])
    targets = itertools.cycle([torch.empty(batch, 3, size, size) for _ in range(4)])
    epochs, rows = itertools.count(), np.arange(batch) % len(store)

    def turn() -> int:
        epoch, out = next(epochs), next(targets)
        views_of(store, rows, plan, seed=0, epoch=epoch, threads=threads, out=[out])
        return batch

    return turn


def torchvision_steps(size: int) -> list[torch.nn.Module]:
    from torchvision.transforms import v2

    jitter_strength = 0.5 if size <= 32 else 1.0
    color = v2.ColorJitter(
        0.8 * jitter_strength, 0.8 * jitter_strength, 0.8 * jitter_strength, 0.2 * jitter_strength
    )
    blur = [v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], 0.5)] if size > 32 else []
    steps = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
    return [*steps, v2.RandomApply([color], 0.8), v2.RandomGrayscale(0.2), *blur]


def torchvision_pil(images: list[Image.Image], size: int, batch: int) -> Turn:
    from torchvision.transforms import v2

    to_float = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    return one_by_one(v2.Compose([*torchvision_steps(size), *to_float]), images, batch)


def torchvision_tensor(images: list[Image.Image], size: int, batch: int) -> Turn:
    from torchvision.transforms import v2

    tensors = [v2.functional.pil_to_tensor(image) for image in images]
    to_float = v2.ToDtype(torch.float32, scale=True)
    return one_by_one(v2.Compose([*torchvision_steps(size), to_float]), tensors, batch)


def lightly(images: list[Image.Image], size: int, batch: int) -> Turn:
    from lightly.transforms import SimCLRTransform

    blur, jitter_strength = (0.0, 0.5) if size <= 32 else (0.5, 1.0)
    both = SimCLRTransform(
        input_size=size, cj_strength=jitter_strength, gaussian_blur=blur, normalize=None
    )
    return one_by_one(both.transforms[0], images, batch)


def kornia(images: list[Image.Image], size: int, batch: int) -> Turn:
    import kornia.augmentation as augment

    jitter_strength = 0.5 if size <= 32 else 1.0
    steps: list[torch.nn.Module] = [
        augment.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        augment.RandomHorizontalFlip(),
        augment.ColorJitter(*[0.8 * jitter_strength] * 3, 0.2 * jitter_strength, p=0.8),
        augment.RandomGrayscale(p=0.2),
    ]
    if size > 32:
        steps.append(augment.RandomGaussianBlur((23, 23), (0.1, 2.0), p=0.5))
    pipeline = torch.nn.Sequential(*steps)
    stack = torch.stack([torch.from_numpy(np.asarray(image).copy()) for image in images])
    whole = (stack.permute(0, 3, 1, 2).float() / 255)[torch.arange(batch) % len(images)]

    def turn() -> int:
        with torch.no_grad():
            return len(pipeline(whole))

    return turn


def one_by_one(transform: Callable[..., torch.Tensor], images: list, batch: int) -> Turn:
    """As a data loader does: image by image, then stacked."""
    places = itertools.cycle(range(len(images)))

    def turn() -> int:
        return len(torch.stack([transform(images[next(places)]) for _ in range(batch)]))

    return turn


def from_jpeg(images: list[Image.Image], decoder: str, threads: int) -> Turn:
    """Decode every image and make its two views of 224 px."""
    files, plan = [jpeg(image) for image in images], simclr_views(224)
    decode, pool = DECODERS[decoder](), ThreadPoolExecutor(threads)
    targets = itertools.cycle([[torch.empty(len(files), 3, 224, 224) for _ in plan.views]] * 4)
    epochs, rows = itertools.count(), np.arange(len(files))

    def turn() -> int:
        decoded = list(pool.map(decode, files)) if threads > 1 else [decode(f) for f in files]
        store = store_from_words(decoded)
        epoch, out = next(epochs), next(targets)
        views_of(store, rows, plan, seed=0, epoch=epoch, threads=threads, out=out)
        return 2 * len(files)

    return turn


def jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=85)
    return stream.getvalue()


def pillow_decoder() -> Callable[[bytes], np.ndarray]:
    return lambda file: np.asarray(Image.open(io.BytesIO(file)).convert("RGBX"))


def simplejpeg_decoder() -> Callable[[bytes], np.ndarray]:
    import simplejpeg

    return lambda file: simplejpeg.decode_jpeg(file, colorspace="RGBX")


DECODERS = {"Pillow": pillow_decoder, "simplejpeg": simplejpeg_decoder}


def store_from_words(images: list[np.ndarray]) -> ImageStore:
    """A store of images decoded to four bytes a pixel, without packing them again."""
    areas = np.array([image.shape[0] * image.shape[1] for image in images])
    pixels = np.concatenate([image.reshape(-1, 4) for image in images])
    starts = np.cumsum([0, *areas[:-1]])
    return ImageStore(
        pixels=pixels,
        starts=starts,
        content=pixel_hashes(pixels, starts, areas),
        heights=np.array([image.shape[0] for image in images], np.int32),
        widths=np.array([image.shape[1] for image in images], np.int32),
        ids=np.arange(len(images)),
        names=[str(place) for place in range(len(images))],
    )


def rate(turn: Turn, seconds: float) -> float:
    """Views per second over at least ``seconds``, so that fast and slow have turns alike."""
    start, views, passed = time.perf_counter(), 0, 0.0
    while passed < seconds:
        views += turn()
        passed = time.perf_counter() - start
    return views / passed


def rates(turns: dict[str, Turn], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Views per second of every contender, round by round; the first round does not count."""
    found: dict[str, list[float]] = {name: [] for name in turns}
    for count in range(rounds + 1):
        for name, turn in turns.items():
            speed = rate(turn, seconds)
            if count:
                found[name].append(speed)
    return found


def table(title: str, found: dict[str, list[float]]) -> None:
    """Medians, best turns, and how many times faster the first row is."""
    first = next(iter(found.values()))
    print(f"\n### {title}\n\n| | views/s, median | best | first row is faster by |")
    print("|---|---:|---:|---:|")
    for name, values in found.items():
        ratio = statistics.median(a / b for a, b in zip(first, values, strict=True))
        median = statistics.median(values)
        print(f"| {name} | {median:,.0f} | {max(values):,.0f} | {ratio:.2f} x |", flush=True)


def contenders(size: int, images: list[Image.Image], batch: int, slow: int) -> dict[str, Turn]:
    turns = {
        "coview, 1 thread": ours(images, size, batch, 1),
        "coview, 2 threads": ours(images, size, batch, 2),
    }
    peers = {
        "torchvision v2 on PIL": torchvision_pil,
        "torchvision v2 on tensors": torchvision_tensor,
        "lightly": lightly,
        "kornia": kornia,
    }
    for name, make in peers.items():
        try:
            turns[name] = make(images, size, batch if name == "kornia" and size <= 32 else slow)
        except ImportError as error:
            print(f"{name} is left out: {error}.")
    return turns


def jpeg_contenders(images: list[Image.Image]) -> dict[str, Turn]:
    turns: dict[str, Turn] = {}
    for threads, decoder in itertools.product((1, 2), DECODERS):
        name = f"coview with {decoder}, {threads} thread{'s' * (threads > 1)}"
        try:
            turns[name] = from_jpeg(images, decoder, threads)
        except ImportError as error:
            print(f"{name} is left out: {error}.")
    return turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: does it run")
    parser.add_argument("--photos", type=Path, help="folder of JPEG photographs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rounds, count, seconds = (3, 16, 0.05) if options.quick else (11, 64, 0.4)
    print(f"SimCLR views: {setting()}")
    for title, (size, shape, batch) in CASES.items():
        images = pictures(shape, 1024 if size <= 32 else count, options.photos)
        slow = 64 if size <= 32 else 4
        table(title, rates(contenders(size, images, batch, slow), rounds, seconds))
    for shape in ((256, 341), (400, 534)):
        images = pictures(shape, count, options.photos)
        kilobytes = statistics.mean(len(jpeg(image)) for image in images) / 1000
        title = f"Two views of 224 px from JPEG, {shape[0]} x {shape[1]}, {kilobytes:.0f} kB"
        table(title, rates(jpeg_contenders(images), rounds, seconds))


if __name__ == "__main__":
    main()
