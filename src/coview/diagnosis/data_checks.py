"""Is this data usable? Checks of the images before any training, each with its remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.ahead import map_ahead
from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.core.machine import cores
from coview.core.plain import finite
from coview.core.rng import CHECKED_IMAGES, COLOR_CHECK_IMAGES, Stream, permutation
from coview.core.text import plural
from coview.data.held_out import MIN_TRAIN_IMAGES, hold_out, usual_training
from coview.data.rgb import MAX_DARK, REWRITE_COLORS, likely_white
from coview.embeddings.duplicates import Pair, exact_groups, find_pairs
from coview.embeddings.signatures import signatures

RECOMMENDED_IMAGES = 2_000
RECOMMENDED_STEPS = 5_000
SAMPLE = 4_096  # images that are compared in pairs and checked for color
VIEWED = 512  # images of which views are rendered
GRAY_LEVELS = 8  # a gray JPEG has smaller differences between channels
MIN_SIDE_OF_LARGE_VIEWS = 64  # the color check views smaller images at 32 px, others at 96 px
MAX_COLOR_ACCURACY = 0.5
MAX_BROKEN_SHARE = 0.01
MAX_COPIES_SHARE = 0.01
UNBALANCED_RATIO = 10.0
ELONGATED_RATIO = 3.0
MAX_WORKERS = 8
SIZES = (32, 64, 128, 256, 512, 1024)

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of a check: ``level`` is "good", "note" or "problem"; ``fix`` is "" for "good"."""

    name: str
    level: str
    sentence: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """All findings on a source, their figures, and (name, reason) of every broken file."""

    source: str
    findings: tuple[Finding, ...]
    figures: dict[str, Any]
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def exit_code(self) -> int:
        """1 where there is a problem, else 0."""
        return int(any(finding.level == "problem" for finding in self.findings))

    def to_json(self) -> dict[str, Any]:
        """A JSON object of source, findings, figures and broken files; figures that are not finite
        become null."""
        broken = [{"name": name, "reason": reason} for name, reason in self.broken]
        content: dict[str, Any] = finite({**asdict(self), "broken": broken})
        return content

    def render_text(self) -> str:
        """Sentences for a terminal: problems, notes, good findings, then one line a broken file."""
        problems = sum(finding.level == "problem" for finding in self.findings)
        head = plural(problems, "problem") if problems else "No problem found"
        lines = [f"{self.source}: {head}.", ""]
        for level in ("problem", "note", "good"):
            for finding in self.findings:
                if finding.level == level:
                    lines.append(f"{level:<8} {finding.sentence}")
                    lines += [f"{'':<8} -> {finding.fix}"] if finding.fix else []
        if self.broken:
            lines += ["", "Left out:", *(f"  {name}: {reason}" for name, reason in self.broken)]
        return "\n".join(lines)


def check_data(
    store: ImageStore, *, seed: int = 0, sampled: bool = False, kept_at: int | None = None
) -> DataReport:
    """Check ``store`` without training.

    ``sampled``: the store holds only a sample of the source, so its size is not checked.
    ``kept_at``: larger images were resized to this short side in pixels, so sides equal to it are
    lower bounds. Exact copies are searched among all images, near copies and gray images in a
    random sample of 4,096, the color shortcut in one of 512; each sentence gives the size of its
    sample. Raises DataError for a store without images.
    """
    if len(store) == 0:
        raise DataError(f"{store.source or 'The source'} holds no image that can be read.")
    order = permutation(seed, Stream.HEALTH, store.ids, draw_index=CHECKED_IMAGES)
    data = DataCheck(
        store=store, sample=np.sort(order[:SAMPLE]), seed=seed, figures={}, kept_at=kept_at
    )
    checks = [check for check in CHECKS if not (sampled and check in OF_ALL_IMAGES)]
    findings = [finding for check in checks if (finding := check(data)) is not None]
    return DataReport(
        source=store.source or "images", findings=tuple(findings), figures=data.figures,
        broken=store.quarantine,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class DataCheck:
    """The input of a check, and the ``figures`` that it fills."""

    store: ImageStore
    sample: Rows
    seed: int
    figures: dict[str, Any]
    kept_at: int | None = None

    @property
    def short_side(self) -> int:
        """Median of the shorter sides, in pixels."""
        return int(np.median(np.minimum(self.store.heights, self.store.widths)))


Check = Callable[[DataCheck], Finding | None]


def check_count(data: DataCheck) -> Finding:
    """Are there enough images?"""
    images = data.figures["images"] = len(data.store)
    if images < RECOMMENDED_IMAGES:
        return Finding(
            name="count",
            level="problem",
            sentence=f"{images:,} images are too few to learn a representation from scratch; "
            f"expected about {RECOMMENDED_IMAGES:,} or more.",
            fix="Start from a pretrained encoder, by `coview finetune` or `coview pretrain "
            "--weights`; `coview import` takes checkpoints of other programs. Or add images; they "
            "need no labels.",
        )
    return Finding(name="count", level="good", sentence=f"There are {images:,} images.")


def check_broken(data: DataCheck) -> Finding | None:
    """Could all files be read?"""
    files = data.store.quarantine
    data.figures["broken"] = len(files)
    if not files:
        return None
    share = len(files) / (len(files) + len(data.store))
    return Finding(
        name="broken",
        level="problem" if share > MAX_BROKEN_SHARE else "note",
        sentence=f"{plural(len(files), 'file')} ({share:.1%}) could not be used, listed below.",
        fix="Copy them again from their source, or delete them.",
    )


def check_sizes(data: DataCheck) -> Finding:
    """The distribution of the shorter sides, and the share of elongated images."""
    heights, widths = data.store.heights, data.store.widths
    short = np.minimum(heights, widths)
    bounds = [side for side in SIZES if data.kept_at is None or side <= data.kept_at] or SIZES[:1]
    counts = np.histogram(short, bins=[0, *bounds, np.iinfo(np.int32).max])[0]
    labels = [f"< {bounds[0]}", *(f"{a} .. {b - 1}" for a, b in pairwise(bounds))]
    labels.append(f">= {bounds[-1]}")
    data.figures["short_sides"] = {
        label: int(n) for label, n in zip(labels, counts, strict=True) if n
    }
    long_share = float(np.mean(np.maximum(heights, widths) > ELONGATED_RATIO * short))
    data.figures["elongated"] = long_share
    most = f"{short.max()} px{' or more' if short.max() == data.kept_at else ''}"
    sentence = f"All short sides are {most}."
    if short.min() < short.max():
        table = ", ".join(f"{label} px: {n:,}" for label, n in data.figures["short_sides"].items())
        sentence = f"Short sides are {short.min()} to {most}, median {data.short_side} ({table})."
    if long_share > 0.05:
        return Finding(
            name="sizes",
            level="note",
            sentence=f"{sentence} {long_share:.0%} are more than three times as long as wide.",
            fix="Cut long images into squares: a crop shows a small part of a long image.",
        )
    return Finding(name="sizes", level="good", sentence=sentence)


def check_gray(data: DataCheck) -> Finding:
    """The share of gray images, which the color jitter barely changes."""
    workers, rows = min(cores(), MAX_WORKERS), data.sample.tolist()
    looks = map_ahead(
        lambda row: is_gray(data.store.image(row)), rows, workers, most=4 * workers, name="look"
    )
    share = data.figures["gray"] = float(np.mean(list(looks)))
    sentence = f"{share:.0%} of {_sampled(data)} are gray."
    if share < 0.05:
        return Finding(name="gray", level="good", sentence=sentence)
    if share > 0.95:
        fix = "Saturation and hue have no effect here: rely on crops, brightness and contrast."
    else:
        fix = "Gray or colored is a cue for the network: keep the random grayscale of the views."
    return Finding(name="gray", level="note", sentence=sentence, fix=fix)


def is_gray(image: npt.NDArray[np.uint8]) -> bool:
    """Whether the channels differ by less than 8 of 256 levels in 99 % of the pixels."""
    pixels = image.reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // 4096)].astype(np.int16)
    return bool(np.mean(np.ptp(pixels, axis=1) < GRAY_LEVELS) >= 0.99)


def check_brightness(data: DataCheck) -> Finding | None:
    """Are images of 16 bits nearly black, as those are that use the low bits alone?

    Dark images of 8 bits, or whose white was declared, are as they should be.
    """
    level = data.store.brightest
    if level < 0:
        return None
    data.figures["brightest"] = level
    if level > MAX_DARK:
        return None
    return Finding(
        name="brightness",
        level="problem",
        sentence="The images of 16 bits are nearly black: 99% of them have no level above "
        f"{level} of 255.",
        fix="If they use fewer bits, set `white` to the value that means white, perhaps "
        f"{likely_white(level)}, if they are gray; {REWRITE_COLORS}. Else make them brighter, all "
        "by one factor.",
    )


def check_copies(data: DataCheck) -> Finding:
    """Exact copies, which are false negatives and may be in training and held-out data."""
    groups = exact_groups(data.store)
    extra = data.figures["exact_copies"] = sum(len(rows) - 1 for rows in groups)
    if not groups:
        return Finding(name="copies", level="good", sentence="There are no exact copies.")
    share, names, labels = extra / len(data.store), data.store.names, data.store.labels
    disagree = (
        0 if labels is None else sum(len(set(labels[rows].tolist()) - {-1}) > 1 for rows in groups)
    )
    data.figures["copies_with_other_labels"] = disagree
    doubt = f", {disagree:,} of them under different labels" if disagree else ""
    shown = ", ".join(f"{names[rows[0]]} = {names[rows[1]]}" for rows in groups[:3])
    return Finding(
        name="copies",
        level="problem" if share > MAX_COPIES_SHARE or disagree else "note",
        sentence=f"{plural(extra, 'surplus copy', 'surplus copies')} ({share:.1%}) in "
        f"{plural(len(groups), 'group')} of equal images{doubt} ({shown}): each copy is a false "
        "negative of the others.",
        fix="Keep one of each group.",
    )


def check_near_copies(data: DataCheck) -> Finding:
    """Re-encoded, resized, cropped, flipped or brightened copies in the sample."""
    sample = data.store.subset(data.sample)
    sizes = np.stack([sample.heights, sample.widths], axis=1)
    pairs = find_pairs(signatures(sample), exact=exact_groups(sample), sizes=sizes)
    pairs = [pair for pair in pairs if pair.kind != "identical pixels"]
    data.figures["near_pairs"] = len(pairs)
    near = len({row for pair in pairs for row in (pair.first, pair.second)})
    if not pairs:
        return Finding(
            name="near copies", level="good", sentence=f"No near copies among {_sampled(data)}."
        )
    names, labels = sample.names, sample.labels

    def contradicts(pair: Pair) -> bool:
        known = set() if labels is None else {int(labels[pair.first]), int(labels[pair.second])}
        return len(known - {-1}) > 1

    pairs.sort(key=lambda pair: not contradicts(pair))
    disagree = data.figures["near_pairs_with_other_labels"] = sum(map(contradicts, pairs))
    doubt = f", {plural(disagree, 'pair')} under different labels" if disagree else ""
    shown = ", ".join(f"{names[p.first]} ~ {names[p.second]}: {p.kind}" for p in pairs[:3])
    return Finding(
        name="near copies",
        level="problem" if near / len(data.sample) > MAX_COPIES_SHARE or disagree else "note",
        sentence=f"{near:,} of {_sampled(data)} are near copies of another{doubt} ({shown}).",
        fix="`coview duplicates` finds all of them and shows them side by side. "
        + ("Correct the labels, and keep" if disagree else "Keep")
        + " one of each group, or accept them as false negatives.",
    )


def check_classes(data: DataCheck) -> Finding | None:
    """The number of images of each class, where there are labels."""
    labels = data.store.labels
    if labels is None or not (labels >= 0).any():
        return None
    known, counts = np.unique(labels[labels >= 0], return_counts=True)
    named = data.store.class_names
    names = [named[int(k)] if int(k) < len(named) else str(int(k)) for k in known]
    data.figures["classes"] = dict(zip(names, (int(n) for n in counts), strict=True))
    data.figures["unlabeled"] = int((labels < 0).sum())
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    span = f"of {plural(int(counts[largest]), 'image')} each"
    if counts[smallest] < counts[largest]:
        span = (
            f"from {counts[smallest]:,} ({names[smallest]}) to {counts[largest]:,} images "
            f"({names[largest]})"
        )
    sentence = f"{plural(len(known), 'class', 'classes')}, {span}."
    if data.figures["unlabeled"]:
        sentence += f" Without a label: {plural(data.figures['unlabeled'], 'image')}."
    if counts[smallest] < 2:
        return Finding(
            name="classes",
            level="problem",
            sentence=f"{sentence} {(counts < 2).sum():,} classes have one image only.",
            fix="Merge or drop them: they have no positive and cannot be split for a test.",
        )
    if counts[largest] > UNBALANCED_RATIO * counts[smallest]:
        return Finding(
            name="classes", level="note", sentence=sentence,
            fix="Compare the accuracy per class: the mean depends mostly on the large classes.",
        )  # fmt: skip
    return Finding(name="classes", level="good", sentence=sentence)


def check_color_shortcut(data: DataCheck) -> Finding:
    """Do colors alone match the views of SimCLR?"""
    import torch

    from coview.diagnosis.shortcuts import color_instance_accuracy
    from coview.views import simclr_views, views_of

    rows = permutation(data.seed, Stream.HEALTH, data.store.ids, draw_index=COLOR_CHECK_IMAGES)[
        :VIEWED
    ]
    size = 32 if data.short_side < MIN_SIDE_OF_LARGE_VIEWS else 96
    first, second = views_of(data.store, rows, simclr_views(size), seed=data.seed, epoch=0)
    accuracy = data.figures["color_instance_accuracy"] = color_instance_accuracy(
        torch.as_tensor(first), torch.as_tensor(second)
    )
    sentence = (
        f"Color histograms alone match {accuracy:.0%} of the SimCLR views of {len(rows):,} images "
        f"(chance {1 / len(rows):.1%})."
    )
    # Of a few images chance alone would match as many.
    if accuracy < max(MAX_COLOR_ACCURACY, 10 / len(rows)):
        return Finding(name="color shortcut", level="good", sentence=sentence)
    return Finding(
        name="color shortcut",
        level="problem",
        sentence=f"{sentence} A network could learn colors and nothing else.",
        fix="Make the color jitter stronger: set `jitter_strength` to 1.5.",
    )


def check_recipe(data: DataCheck) -> Finding | None:
    """The default recipe of ``coview pretrain`` for these images, and its number of steps."""
    if len(data.store) < MIN_TRAIN_IMAGES:
        return None
    from coview.planning.defaults import default_recipe
    from coview.training.precision import choose_device

    device = choose_device("auto").type
    # The recipe is chosen for the images of any seed, and makes the steps of those of this one.
    usual, images = usual_training(len(data.store)), len(hold_out(data.store, data.seed)[0])
    recipe = default_recipe("simclr", side=data.short_side, images=usual, device=device)
    steps = recipe.total_steps(images)
    data.figures["recipe"] = {
        "name": "simclr", "device": device, "size": recipe.image_size, "batch": recipe.batch_size,
        "epochs": recipe.epochs, "steps": steps,
    }  # fmt: skip
    sentence = (
        f"Default recipe on this machine's {device}: `recipe` simclr, with views of "
        f"{recipe.image_size} px, batch {recipe.batch_size}, {recipe.epochs:g} epochs: "
        f"{steps:,} steps."
    )
    if steps >= RECOMMENDED_STEPS:
        return Finding(name="recipe", level="good", sentence=sentence)
    epochs = math.ceil(RECOMMENDED_STEPS / recipe.steps_per_epoch(images))
    return Finding(
        name="recipe",
        level="note",
        sentence=f"{sentence} A good representation usually needs {RECOMMENDED_STEPS:,} or more.",
        fix=f"If there is time, set `epochs` to {epochs}.",
    )


CHECKS: tuple[Check, ...] = (
    check_count, check_broken, check_sizes, check_gray, check_brightness, check_copies,
    check_near_copies, check_classes, check_color_shortcut, check_recipe,
)  # fmt: skip
OF_ALL_IMAGES = (check_count, check_recipe)


def _sampled(data: DataCheck) -> str:
    images, sampled = len(data.store), len(data.sample)
    return f"all {images:,} images" if sampled == images else f"{sampled:,} sampled images"
