"""Is this data usable? What a look at the images says before any training, each with its remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.core.rng import Stream, permutation
from coview.data.held_out import MIN_TRAIN_IMAGES, hold_out
from coview.diagnosis.verdict import Option
from coview.embeddings.duplicates import exact_groups, near_pairs

RECOMMENDED_IMAGES = 2_000
FEWEST_STEPS = 5_000
SAMPLE = 4_096  # images compared in pairs or looked at for color
VIEWED = 512  # images of which views are rendered
GRAY_LEVELS = 8  # JPEG of a gray image leaves color differences below this
SMALL_SIDE = 64  # images shorter than this are judged, and trained, at 32 px
SHORTCUT = 0.5  # share of views that colors alone may match
BROKEN_SHARE = 0.01
NEAR_SHARE = 0.01
UNBALANCED = 10.0
ELONGATED = 3.0
SIZES = (32, 64, 128, 256, 512, 1024)

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing seen: ``level`` is "good", "note" or "problem"; ``fix`` is "" where all is well."""

    name: str
    level: str
    sentence: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """All findings on a source of images, the numbers behind them, and every broken file."""

    source: str
    findings: tuple[Finding, ...]
    figures: dict[str, Any]
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def exit_code(self) -> int:
        """1 where there is a problem, else 0."""
        return int(any(finding.level == "problem" for finding in self.findings))

    def to_json(self) -> dict[str, Any]:
        """A JSON object of source, findings, figures and broken files."""
        findings = [
            {"name": f.name, "level": f.level, "sentence": f.sentence, "fix": f.fix}
            for f in self.findings
        ]
        broken = [{"name": name, "reason": reason} for name, reason in self.broken]
        return {
            "source": self.source, "findings": findings, "figures": self.figures, "broken": broken
        }  # fmt: skip

    def render_text(self) -> str:
        """Sentences for a terminal: problems first, then notes, then what is good; broken files
        one a line below."""
        problems = sum(finding.level == "problem" for finding in self.findings)
        head = f"{problems} problem{'s' * (problems != 1)}" if problems else "No problem found"
        lines = [f"{self.source}: {head}.", ""]
        for level in ("problem", "note", "good"):
            for finding in self.findings:
                if finding.level == level:
                    lines.append(f"{level:<8} {finding.sentence}")
                    lines += [f"{'':<8} -> {finding.fix}"] if finding.fix else []
        if self.broken:
            lines += ["", "Left out:", *(f"  {name}: {reason}" for name, reason in self.broken)]
        return "\n".join(lines)


def doctor_data(
    store: ImageStore, *, seed: int = 0, sampled: bool = False, kept_at: int | None = None
) -> DataReport:
    """Everything that can be said about ``store`` without training.

    ``sampled``: the store holds some images of a source only, so their number says nothing.
    ``kept_at``: larger images were resized to this short side, so there it means "or more".
    Exact copies are looked for among all images; pairs, colors and views in keyed samples of
    4,096 and 512, whose size each sentence gives. Raises DataError for a store without images.
    """
    if len(store) == 0:
        raise DataError(f"{store.source or 'The source'} holds no image that can be read.")
    order = permutation(seed, Stream.HEALTH, store.ids, epoch=0)
    look = DataCheck(
        store=store, sample=np.sort(order[:SAMPLE]), seed=seed, figures={}, kept_at=kept_at
    )
    checks = [check for check in CHECKS if not (sampled and check in OF_THE_WHOLE)]
    findings = [found for check in checks if (found := check(look)) is not None]
    return DataReport(
        source=store.source or "images",
        findings=tuple(findings),
        figures=look.figures,
        broken=store.quarantine,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck:
    """What a check may look at, and where it leaves its numbers."""

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


def count(look: DataCheck) -> Finding:
    """Whether there are enough images."""
    images = look.figures["images"] = len(look.store)
    if images < RECOMMENDED_IMAGES:
        return Finding(
            name="count",
            level="problem",
            sentence=f"{images:,} images are too few to learn a representation from scratch; "
            f"about {RECOMMENDED_IMAGES:,} are the least.",
            fix="Use the frozen features of a pretrained encoder, or add images; unlabeled ones "
            "serve as well.",
        )
    return Finding(name="count", level="good", sentence=f"There are {images:,} images.")


def broken(look: DataCheck) -> Finding | None:
    """Files that could not be read."""
    files = look.store.quarantine
    look.figures["broken"] = len(files)
    if not files:
        return None
    share = len(files) / (len(files) + len(look.store))
    return Finding(
        name="broken",
        level="problem" if share > BROKEN_SHARE else "note",
        sentence=f"{_several(len(files), 'file')} ({share:.1%}) could not be used, listed below.",
        fix="Copy them again from their source, or delete them.",
    )


def sizes(look: DataCheck) -> Finding:
    """The shorter sides, and shapes of which a square crop shows little."""
    heights, widths = look.store.heights, look.store.widths
    short = np.minimum(heights, widths)
    bounds = [side for side in SIZES if look.kept_at is None or side <= look.kept_at]
    counts = np.histogram(short, bins=[0, *bounds, np.iinfo(np.int32).max])[0]
    labels = [f"< {bounds[0]}", *(f"{a} .. {b - 1}" for a, b in pairwise(bounds))]
    labels.append(f">= {bounds[-1]}")
    look.figures["short_sides"] = {
        label: int(n) for label, n in zip(labels, counts, strict=True) if n
    }
    long_share = float(np.mean(np.maximum(heights, widths) > ELONGATED * short))
    look.figures["elongated"] = long_share
    most = f"{short.max()} px{' or more' if short.max() == look.kept_at else ''}"
    sentence = f"All short sides are {most}."
    if short.min() < short.max():
        table = ", ".join(f"{label} px: {n:,}" for label, n in look.figures["short_sides"].items())
        sentence = f"Short sides are {short.min()} to {most}, median {look.short_side} ({table})."
    if long_share > 0.05:
        return Finding(
            name="sizes",
            level="note",
            sentence=f"{sentence} {long_share:.0%} are more than three times as long as wide.",
            fix="Cut long images into squares first: one crop shows a small part of them.",
        )
    return Finding(name="sizes", level="good", sentence=sentence)


def gray(look: DataCheck) -> Finding:
    """Images without color, which the color half of the augmentation does not change."""
    flags = [is_gray(look.store.image(int(row))) for row in look.sample]
    share = look.figures["gray"] = float(np.mean(flags))
    sentence = f"{share:.0%} of {_sampled(look)} are gray."
    if share < 0.05:
        return Finding(name="gray", level="good", sentence=sentence)
    if share > 0.95:
        fix = "Saturation and hue do nothing here: rely on crops, brightness and contrast."
    else:
        fix = "Gray or colored is a cue in itself: keep the random grayscale of the views on."
    return Finding(name="gray", level="note", sentence=sentence, fix=fix)


def is_gray(image: npt.NDArray[np.uint8]) -> bool:
    """Whether the channels of 99 % of the pixels differ by less than 8 of 256 levels."""
    pixels = image.reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // 4096)].astype(np.int16)
    return bool(np.mean(np.ptp(pixels, axis=1) < GRAY_LEVELS) >= 0.99)


def copies(look: DataCheck) -> Finding:
    """Exact copies, which are false negatives and leak between held-out parts."""
    groups = exact_groups(look.store)
    extra = look.figures["exact_copies"] = sum(len(rows) - 1 for rows in groups)
    if not groups:
        return Finding(name="copies", level="good", sentence="No image is there twice.")
    share, names, labels = extra / len(look.store), look.store.names, look.store.labels
    disagree = 0 if labels is None else sum(len(set(labels[rows])) > 1 for rows in groups)
    look.figures["copies_with_other_labels"] = disagree
    doubt = f", {disagree:,} of them under different labels" if disagree else ""
    shown = ", ".join(f"{names[rows[0]]} = {names[rows[1]]}" for rows in groups[:3])
    return Finding(
        name="copies",
        level="problem" if share > NEAR_SHARE or disagree else "note",
        sentence=f"{_several(extra, 'surplus copy', 'surplus copies')} ({share:.1%}) in "
        f"{_several(len(groups), 'group')} of equal images{doubt} ({shown}): each copy is a wrong "
        "negative of the others.",
        fix="Keep one of each group.",
    )


def near_copies(look: DataCheck) -> Finding:
    """Re-encoded, resized or brightened copies within the sample."""
    pairs = near_pairs(look.store, look.sample)
    same = {(a, b) for group in _exact_within(look) for a in group for b in group if a < b}
    pairs = [pair for pair in pairs if pair not in same]
    look.figures["near_pairs"] = len(pairs)
    touched = len({row for pair in pairs for row in pair})
    if not pairs:
        return Finding(
            name="near copies",
            level="good",
            sentence=f"No near copies among {_sampled(look)}, every pair compared.",
        )
    names = look.store.names
    shown = ", ".join(f"{names[a]} ~ {names[b]}" for a, b in pairs[:3])
    return Finding(
        name="near copies",
        level="problem" if touched / len(look.sample) > NEAR_SHARE else "note",
        sentence=f"{touched:,} of {_sampled(look)} look almost like another ({shown}).",
        fix="Keep one of each burst or series, or accept that they act as wrong negatives.",
    )


def classes(look: DataCheck) -> Finding | None:
    """The balance of the labels, where there are any."""
    labels = look.store.labels
    if labels is None or not (labels >= 0).any():
        return None
    known, counts = np.unique(labels[labels >= 0], return_counts=True)
    named = look.store.class_names
    names = [named[int(k)] if int(k) < len(named) else str(int(k)) for k in known]
    look.figures["classes"] = dict(zip(names, (int(n) for n in counts), strict=True))
    look.figures["unlabeled"] = int((labels < 0).sum())
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    span = f"of {_several(int(counts[largest]), 'image')} each"
    if counts[smallest] < counts[largest]:
        span = (
            f"from {counts[smallest]:,} ({names[smallest]}) to {counts[largest]:,} images "
            f"({names[largest]})"
        )
    sentence = f"{_several(len(known), 'class', 'classes')}, {span}."
    if look.figures["unlabeled"]:
        sentence += f" Without a label: {_several(look.figures['unlabeled'], 'image')}."
    if counts[smallest] < 2:
        return Finding(
            name="classes",
            level="problem",
            sentence=f"{sentence} {(counts < 2).sum():,} classes have one image only.",
            fix="Merge or drop them: they have neither a positive nor a place in a test set.",
        )
    if counts[largest] > UNBALANCED * counts[smallest]:
        return Finding(
            name="classes",
            level="note",
            sentence=sentence,
            fix="Read accuracy per class: one number would be that of the large classes.",
        )
    return Finding(name="classes", level="good", sentence=sentence)


def color_shortcut(look: DataCheck) -> Finding:
    """Whether colors alone would match the views of SimCLR."""
    import torch

    from coview.diagnosis.shortcuts import color_retrieval
    from coview.views import simclr_views, views_of

    rows = permutation(look.seed, Stream.HEALTH, look.store.ids, epoch=1)[:VIEWED]
    size = 32 if look.short_side < SMALL_SIDE else 96
    first, second = views_of(look.store, rows, simclr_views(size), seed=look.seed, epoch=0)
    score = look.figures["color_retrieval"] = color_retrieval(
        torch.as_tensor(first), torch.as_tensor(second)
    )
    sentence = (
        f"Color histograms alone match {score:.0%} of two SimCLR views among {len(rows):,} images "
        f"(chance {1 / len(rows):.1%})."
    )
    if score < SHORTCUT:
        return Finding(name="color shortcut", level="good", sentence=sentence)
    return Finding(
        name="color shortcut",
        level="problem",
        sentence=f"{sentence} A network could learn colors and nothing else.",
        fix=f"Make the color jitter stronger: {Option.STRENGTH} 1.5.",
    )


def proposal(look: DataCheck) -> Finding | None:
    """What ``coview pretrain`` would choose for these images here, and the steps that it makes."""
    if len(look.store) < MIN_TRAIN_IMAGES:
        return None
    import torch

    from coview.planning.defaults import default_recipe

    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = len(hold_out(look.store, look.seed)[0])
    chosen = default_recipe("simclr", side=look.short_side, images=images, device=device)
    steps = chosen.total_steps(images)
    look.figures["recipe"] = {
        "name": "simclr", "device": device, "size": chosen.image_size, "batch": chosen.batch_size,
        "epochs": chosen.epochs, "steps": steps,
    }  # fmt: skip
    sentence = (
        f"Recipe that fits on this machine's {device}: --recipe simclr, with views of "
        f"{chosen.image_size} px, batch {chosen.batch_size}, {chosen.epochs:g} epochs: "
        f"{steps:,} steps."
    )
    if steps >= FEWEST_STEPS:
        return Finding(name="recipe", level="good", sentence=sentence)
    epochs = math.ceil(FEWEST_STEPS / (images // chosen.batch_size))
    return Finding(
        name="recipe",
        level="note",
        sentence=f"{sentence} A good representation usually takes {FEWEST_STEPS:,} or more.",
        fix=f"Where time allows: {Option.EPOCHS} {epochs}.",
    )


CHECKS: tuple[Check, ...] = (
    count,
    broken,
    sizes,
    gray,
    copies,
    near_copies,
    classes,
    color_shortcut,
    proposal,
)
OF_THE_WHOLE = (count, proposal)


def _exact_within(look: DataCheck) -> list[list[int]]:
    part = look.store.subset(look.sample)
    return [[int(look.sample[i]) for i in group] for group in exact_groups(part)]


def _several(number: int, one: str, more: str = "") -> str:
    """A number and its noun, in the plural where it is not 1."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def _sampled(look: DataCheck) -> str:
    every = len(look.sample) == len(look.store)
    return f"all {len(look.sample):,} images" if every else f"{len(look.sample):,} sampled images"
