"""Known copies among other images: precision and recall of ways to find duplicates.

    python benchmarks/duplicates.py make SOURCE FOLDER [--images N] [--copies 50] [--seed 0]
    python benchmarks/duplicates.py coview FOLDER [--with RUN]
    python benchmarks/duplicates.py encoder FOLDER --with RUN
    python benchmarks/duplicates.py hashes FOLDER
    python benchmarks/duplicates.py time SOURCE --images N

`make` writes the images of SOURCE (a Parquet file or a folder; --part 0 or 1 of 2 takes every
second image) and --copies copies of each of 11 kinds, each of another image, as files of FOLDER:
PNG, so that nothing else changes, and truth.json. `coview` compares with ours, `encoder` with
the cosine of the vectors of RUN alone, `hashes` with those of imagehash and imagededup, where they
are installed. A pair is right if it is an image and its copy; a pair of two other images is
counted as "other" and is a mistake or a copy that the data had before: `--pictures FILE` of
`coview` draws them, and of `time` pairs below the default. Precision counts only copies that were
made, and every other pair as wrong.
For each way: its figures at its default, where it has one, and over its thresholds.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coview.cli.main import share_cores

share_cores()

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

from coview.core.images import ImageStore, store_from_arrays  # noqa: E402
from coview.data.spec import DataSpec  # noqa: E402
from coview.embeddings.duplicates import SIMILAR, exact_groups, find_pairs  # noqa: E402
from coview.embeddings.signatures import signatures  # noqa: E402
from setting import setting  # noqa: E402

Picture = Image.Image
Generator = np.random.Generator
Pairs = list[tuple[int, int, float]]
Images = list[npt.NDArray[np.uint8]] | dict[int, npt.NDArray[np.uint8]]
COSINES = (0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995)
SIMILARITIES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9)
DISTANCES = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20)


def encoded(image: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(quality))
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def cropped(image: Picture, rng: Generator, share: float) -> Picture:
    """A window at a random place, ``share`` shorter along each side."""
    width, height = image.size
    w, h = round(width * (1 - share)), round(height * (1 - share))
    left, top = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
    return image.crop((int(left), int(top), int(left) + w, int(top) + h))


def resized(image: Picture, scale: float) -> Picture:
    size = [max(8, round(side * scale)) for side in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.BICUBIC)


def brightened(image: Picture, gain: float) -> Picture:
    levels = np.asarray(image, np.float32) * gain
    return Image.fromarray(np.clip(levels, 0, 255).round().astype(np.uint8))


def watermarked(image: Picture, rng: Generator) -> Picture:
    """White letters of 59 % opacity at a random place, about two thirds of the image wide."""
    width, height = image.size
    text, font = "SAMPLE" if width >= 64 else "abc", ImageFont.load_default(max(8, width * 0.16))
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    drawing = ImageDraw.Draw(layer)
    left, top, right, bottom = drawing.textbbox((0, 0), text, font=font)
    x = rng.integers(0, max(1, int(width - (right - left))))
    y = rng.integers(0, max(1, int(height - (bottom - top))))
    drawing.text((x - left, y - top), text, font=font, fill=(255, 255, 255, 150))
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def flipped(image: Picture) -> Picture:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


KINDS: dict[str, Callable[[Picture, Generator], Picture]] = {
    "JPEG quality 30 to 79": lambda im, rng: encoded(im, rng.integers(30, 80)),
    "half the size": lambda im, rng: encoded(resized(im, 0.5), 90),
    "0.6, 0.75 or 1.5 of the size": lambda im, rng: encoded(
        resized(im, rng.choice([0.6, 0.75, 1.5])), 90
    ),
    "cropped by 5 %": lambda im, rng: encoded(cropped(im, rng, 0.05), 90),
    "cropped by 10 %": lambda im, rng: encoded(cropped(im, rng, 0.10), 90),
    "cropped by 20 %": lambda im, rng: encoded(cropped(im, rng, 0.20), 90),
    "flipped": lambda im, rng: encoded(flipped(im), 90),
    "brightness x 0.6 to 1.4": lambda im, rng: encoded(
        brightened(im, rng.choice([0.6, 0.75, 1.25, 1.4])), 90
    ),
    "watermarked": lambda im, rng: encoded(watermarked(im, rng), 90),
    "flipped, cropped by 10 %": lambda im, rng: encoded(cropped(flipped(im), rng, 0.10), 90),
    "cropped by 10 %, half the size, JPEG 60": lambda im, rng: encoded(
        resized(cropped(im, rng, 0.10), 0.5), 60
    ),
}


def make(source: str, folder: Path, *, images: int | None, part: int | None, copies: int,
         seed: int) -> None:  # fmt: skip
    spec = DataSpec.of(source, None, labels_from="none", split="all")
    try:
        store = spec.open(source)
    except Exception:
        store = DataSpec.of(source, None, labels_from="none").open(source)
    rows = np.arange(len(store)) if part is None else np.arange(part, len(store), 2)
    rows = rows[:images]
    folder.mkdir(parents=True, exist_ok=True)
    for place, row in enumerate(rows):
        Image.fromarray(store.image(int(row))).save(folder / f"{place:06}.png", compress_level=1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows))
    truth = []
    for number, kind in enumerate(kind for kind in KINDS for _ in range(copies)):
        origin = int(order[number])
        copy = KINDS[kind](Image.fromarray(store.image(int(rows[origin]))), rng)
        copy.save(folder / f"{len(rows) + number:06}.png", compress_level=1)
        truth.append({"origin": origin, "kind": kind})
    content = {"source": Path(source).name, "images": len(rows), "seed": seed, "copies": truth,
               "names": [store.names[int(row)] for row in rows]}  # fmt: skip
    (folder / "truth.json").write_text(json.dumps(content))


def pictures_of(folder: Path) -> tuple[list[npt.NDArray[np.uint8]], dict[str, Any]]:
    files = sorted(folder.glob("*.png"))
    truth = json.loads((folder / "truth.json").read_text())
    return [np.asarray(Image.open(file)) for file in files], truth


def score(title: str, pairs: Pairs, truth: dict[str, Any], thresholds: tuple[float, ...],
          default: float | None, *, lower: bool = False) -> None:  # fmt: skip
    """Precision and recall at each threshold; recall of each kind at the default or the best."""
    first = truth["images"]
    origin = [copy["origin"] for copy in truth["copies"]]
    rows = []
    for threshold in thresholds:
        kept = {
            (min(a, b), max(a, b))
            for a, b, value in pairs
            if (value <= threshold if lower else value >= threshold)
        }
        right = [b for a, b in kept if b >= first and a == origin[b - first]]
        # A pair of two copies of different images, or of an image and another's copy, is wrong.
        wrong = len(kept) - len(right)
        among = sum(b < first for _, b in kept)
        precision = len(right) / max(len(kept), 1)
        recall = len(right) / len(origin)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        rows.append((threshold, precision, recall, f1, wrong, among, right))
    best = max(rows, key=lambda row: row[3])
    print(f"\n### {title}\n\n| threshold | precision | recall | F1 | wrong | of originals |")
    print("|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        mark = " (default)" if row[0] == default else ""
        mark += " (best F1)" if row is best else ""
        print(f"| {row[0]:g}{mark} | {row[1]:.1%} | {row[2]:.1%} | {row[3]:.3f} | {row[4]:,} | "
              f"{row[5]:,} |")  # fmt: skip
    shown = next((row for row in rows if row[0] == default), best)
    kinds = Counter(copy["kind"] for copy in truth["copies"])
    found = Counter(truth["copies"][b - first]["kind"] for b in shown[6])
    text = ", ".join(f"{kind} {found[kind] / kinds[kind]:.0%}" for kind in kinds)
    print(f"\nRecall at {shown[0]:g}: {text}.")


def ours(folder: Path, run: str | None, drawing: Path | None) -> None:
    images, truth = pictures_of(folder)
    store = store_from_arrays(images)
    vectors = None if run is None else vectors_of(run, store)
    began, cpu = time.monotonic(), time.process_time()
    sizes = np.stack([store.heights, store.widths], axis=1)
    pairs = find_pairs(signatures(store), exact=exact_groups(store), sizes=sizes, vectors=vectors,
                       threshold=min(SIMILARITIES))  # fmt: skip
    took = f"{time.monotonic() - began:.0f} s, {time.process_time() - cpu:.0f} s of processor time"
    name = "Coview, pixels" if run is None else "Coview, pixels and the encoder's candidates"
    plain = [(pair.first, pair.second, pair.similarity) for pair in pairs]
    score(f"{name} ({took})", plain, truth, SIMILARITIES, SIMILAR)
    if drawing is not None:
        first = truth["images"]
        origin = np.array([*range(first), *(copy["origin"] for copy in truth["copies"])])
        others = [pair for pair in pairs if origin[pair.first] != origin[pair.second]
                  and pair.similarity >= SIMILAR]  # fmt: skip
        draw(images, [(p.first, p.second, f"{p.similarity:.2f} {p.kind}") for p in others], drawing)


def draw(images: Images, pairs: list[tuple[int, int, str]], path: Path,
         side: int = 120) -> None:  # fmt: skip
    columns = 5
    rows = max(1, -(-len(pairs) // columns))
    sheet = Image.new("RGB", (columns * (2 * side + 10), rows * (side + 16)), "white")
    drawing = ImageDraw.Draw(sheet)
    for place, (a, b, text) in enumerate(pairs):
        x, y = place % columns * (2 * side + 10), place // columns * (side + 16)
        drawing.text((x, y), text[:40], fill="black")
        for k, row in enumerate((a, b)):
            image = Image.fromarray(images[row])
            scale = side / max(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            sheet.paste(image.resize(size), (x + k * side, y + 14))
    sheet.save(path)


def vectors_of(run: str, store: ImageStore) -> npt.NDArray[np.float32]:
    import torch

    from coview.evaluation import extract
    from coview.runs.load import load_subject

    subject = load_subject(run, None)
    features = extract(subject, store, device=torch.device("cpu"), layers=("h",))
    return features.layers["h"].numpy().astype(np.float32)


def encoder(folder: Path, run: str) -> None:
    """The cosine of the vectors alone, without pixels."""
    images, truth = pictures_of(folder)
    vectors = vectors_of(run, store_from_arrays(images))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs: Pairs = []
    for start in range(0, len(vectors), 1024):
        cosines = vectors[start : start + 1024] @ vectors.T
        a, b = np.nonzero(np.triu(cosines >= min(COSINES), k=start + 1))
        pairs += zip((a + start).tolist(), b.tolist(), cosines[a, b].tolist(), strict=True)
    score("The encoder's cosine alone", pairs, truth, COSINES, None)


def hashes(folder: Path) -> None:
    import imagehash

    images, truth = pictures_of(folder)
    for name, hashing in (("phash", imagehash.phash), ("dhash", imagehash.dhash)):
        began = time.process_time()
        codes = np.stack([hashing(Image.fromarray(image)).hash.ravel() for image in images])
        title = f"imagehash {name} ({time.process_time() - began:.0f} s of processor time to hash)"
        score(title, near_codes(codes), truth, DISTANCES, None, lower=True)
    from imagededup.methods import DHash, PHash

    for kind in (PHash, DHash):
        began, hasher = time.process_time(), kind(verbose=False)
        codes = np.stack([
            np.unpackbits(np.frombuffer(bytes.fromhex(hasher.encode_image(image_array=image)),
                                        np.uint8))
            for image in images
        ])  # fmt: skip
        title = f"imagededup {kind.__name__} ({time.process_time() - began:.0f} s likewise)"
        score(title, near_codes(codes), truth, DISTANCES, 10, lower=True)


def near_codes(codes: npt.NDArray[Any]) -> Pairs:
    """All pairs of codes of 64 bits up to the largest distance, by plain counting."""
    signs = codes.astype(np.float32) * 2 - 1
    pairs: Pairs = []
    for start in range(0, len(signs), 1024):
        distance = (signs.shape[1] - signs[start : start + 1024] @ signs.T) / 2
        a, b = np.nonzero(np.triu(distance <= max(DISTANCES), k=start + 1))
        pairs += zip((a + start).tolist(), b.tolist(), distance[a, b].tolist(), strict=True)
    return pairs


def timing(source: str, images: int, drawing: Path | None) -> None:
    """Seconds of each part, for the first ``images`` images of a source.

    ``drawing``: a file for 60 pairs, drawn from those between the least similarity of the tables
    and the default.
    """
    from coview.embeddings.candidates import find_candidates
    from coview.embeddings.duplicates import _judge

    store = DataSpec.of(source, None, labels_from="none").open(source)
    store = store.subset(np.arange(min(images, len(store))))
    few = signatures(store.subset(np.arange(64)))
    _judge(few, find_candidates(few.gray))  # compiles
    marks = [(time.monotonic(), time.process_time())]
    small = signatures(store)
    marks.append((time.monotonic(), time.process_time()))
    found = find_candidates(small.gray)
    marks.append((time.monotonic(), time.process_time()))
    judged = _judge(small, found)
    marks.append((time.monotonic(), time.process_time()))
    names = ("reading into signatures", f"candidates ({len(found):,})", "alignment")
    similar = judged.similarity
    counts = ", ".join(f"{int((similar >= s).sum()):,} from {s}" for s in SIMILARITIES)
    print(f"\n{len(store):,} images of {store.heights[0]} x {store.widths[0]}; pairs: {counts}\n")
    print("| part | s | s of processor time |\n|---|---:|---:|")
    for name, before, after in zip(names, marks, marks[1:], strict=False):
        print(f"| {name} | {after[0] - before[0]:.1f} | {after[1] - before[1]:.1f} |")
    if drawing is not None:
        between = np.flatnonzero((similar >= min(SIMILARITIES)) & (similar < SIMILAR))
        drawn = np.random.default_rng(0).permutation(between)[:60]
        rows = [(int(found.first[k]), int(found.second[k])) for k in drawn]
        images_of = {row: store.image(row) for pair in rows for row in pair}
        texts = [f"{similar[k]:.2f}" for k in drawn]
        draw(images_of, [(*pair, text) for pair, text in zip(rows, texts, strict=True)], drawing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("make", "coview", "encoder", "hashes", "time"))
    parser.add_argument("source")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--images", type=int)
    parser.add_argument("--part", type=int, choices=(0, 1))
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--with", dest="run")
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    if given.what == "make":
        make(given.source, given.folder, images=given.images, part=given.part,
             copies=given.copies, seed=given.seed)  # fmt: skip
        return
    print(f"{setting()}\n")
    if given.what == "coview":
        ours(Path(given.source), given.run, given.pictures)
    elif given.what == "encoder":
        encoder(Path(given.source), given.run)
    elif given.what == "hashes":
        hashes(Path(given.source))
    else:
        timing(given.source, given.images or 10_000, given.pictures)


if __name__ == "__main__":
    main()
