"""SimCLR's figure 6 (Chen et al., 2020): crops of one image share their histogram of intensities.

Nothing is trained: the figures are computed once and kept in the folder of the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coview.core.images import ImageStore
from coview.core.progress import progress
from coview.core.values import encode
from coview.data.spec import DataSpec
from coview.options import StudyOptions
from coview.studies.claims import Claim, Comparison, Term, decide
from coview.studies.execution import Study, place_of
from coview.studies.experiment import IMAGES, SEEDS, CustomExperiment
from coview.studies.grid import CARD_RECIPES, CARD_TESTS
from coview.studies.measurement import Measurement, measured
from coview.studies.setting import KINDS, Amount, Setting
from coview.studies.tables import shown
from coview.views import ViewPlan, ViewSpec, views_of

NAME = "simclr/histograms"
QUESTION = (
    "Can crops of one image be told by their histogram, and does color distortion prevent it?"
)
BINS, SHOWN_IMAGES, SHOWN_CROPS, BATCH = 64, 2, 4, 500
PLAIN, COLORED = "crops", "crops and color"
FAR = 10.0
"""Times chance: what is far above it."""
AMOUNTS: Mapping[str, Amount] = {
    scale: Amount(images=1_000, epochs=None, seeds=10) for scale in ("cpu", "gpu", "paper")
}


def histograms(views: Tensor) -> Tensor:
    """Views float32 [N, 3, S, S] in [0, 1] -> share of their values in each of BINS equal bins,
    over pixels and channels together: float32 [N, BINS].

    >>> histograms(torch.full((1, 3, 4, 4), 0.999))[0, -1]
    tensor(1.)
    """
    values = (views.clamp(0, 1).flatten(1) * BINS).long().clamp(max=BINS - 1)
    counts = torch.zeros(len(views), BINS)
    counts.scatter_add_(1, values, torch.ones_like(values, dtype=torch.float32))
    return counts / values.shape[1]


def retrieval(asked: Tensor, known: Tensor) -> float:
    """How often the nearest row of ``known`` [N, D] to row i of ``asked`` is row i, in per cent.

    Distance: the sum of absolute differences. Of equally near rows each counts in part.

    >>> retrieval(torch.eye(3), torch.eye(3)), retrieval(torch.ones(2, 1), torch.ones(2, 1))
    (100.0, 50.0)
    """
    distance = torch.cdist(asked, known, p=1)
    nearest = distance <= distance.min(dim=1, keepdim=True).values
    return float(100 * (nearest.diagonal() / nearest.sum(dim=1)).mean())


def specifications(setting: Setting) -> dict[str, ViewSpec]:
    """The recipe's view with crop and flip alone, and with its color distortion as well."""
    first = setting.recipe("simclr").first_view
    colored = replace(first, blur=None, mean=None, std=None)
    return {PLAIN: replace(colored, jitter=None, grayscale=0.0), COLORED: colored}


def views_histograms(
    store: ImageStore, rows: np.ndarray[Any, Any], spec: ViewSpec, count: int, seed: int
) -> Tensor:
    """Histograms of ``count`` views of each image: float32 [count, N, BINS]."""
    plan, parts = ViewPlan(views=(spec,) * count), []
    for start in range(0, len(rows), BATCH):
        views = views_of(store, rows[start : start + BATCH], plan, seed=seed, epoch=0)
        parts.append(torch.stack([histograms(view) for view in views]))
    return torch.cat(parts, dim=1)


def measure(setting: Setting, store: ImageStore) -> dict[str, Any]:
    """The retrieval of every draw of views, the histograms that are drawn, and of which images."""
    rows, found = np.arange(len(store)), dict[str, list[float]]()
    curves: dict[str, Any] = {}
    specs = specifications(setting)
    with progress("histograms", len(specs) * len(setting.seeds), unit="draws") as advance:
        for name, spec in specs.items():
            found[name] = []
            for seed in setting.seeds:
                asked, known = views_histograms(store, rows, spec, 2, seed)
                found[name].append(retrieval(asked, known))
                advance()
            few = rows[:SHOWN_IMAGES]
            drawn = views_histograms(store, few, spec, SHOWN_CROPS, setting.seeds[0])
            curves[name] = (100 * drawn.transpose(0, 1)).tolist()
    return {
        "images": len(store), "fingerprint": store.fingerprint, "retrieval": found,
        "curves": curves,
    }  # fmt: skip


def measurement(setting: Setting) -> Measurement:
    """Views and retrieval of all seeds, by what decides them."""
    decides = [
        setting.data(test=False), setting.seeds,
        [encode(spec) for spec in specifications(setting).values()], BINS,
    ]  # fmt: skip
    return Measurement(of=decides, measure=lambda: measure(setting, open_store(setting)))


def open_store(setting: Setting) -> ImageStore:
    size = setting.recipe("simclr").image_size
    options = replace(setting.options, limit=setting.amount.images)
    return DataSpec.of(setting.source, options, size=size).open()


def claims(chance: float) -> tuple[Claim, ...]:
    """``chance``: of finding an image, in per cent."""
    return (
        Claim(
            text="Crops of one image share their histogram: it is found by it more than "
            f"{FAR:g} times as often as by chance",
            source="SimCLR, figure 6",
            comparisons=(
                Comparison(
                    text="found by crops, per cent", above=FAR * chance,
                    terms=(Term(PLAIN),),
                ),
            ),
        ),
        Claim(
            text="Color distortion breaks the shortcut: fewer than half as many are found",
            source="SimCLR, figure 6",
            comparisons=(
                Comparison(
                    text=f"found by {PLAIN} - twice those by {COLORED}",
                    terms=(Term(PLAIN), Term(COLORED, -2)),
                ),
            ),
        ),
    )  # fmt: skip


def summarize(setting: Setting, root: Path) -> dict[str, Any]:
    """Tables, drawings and claims of what was measured."""
    place = place_of(NAME, root, setting.scale)
    known = measured(place)
    found, images = known["retrieval"], known["images"]
    highest = max(np.max(each) for each in known["curves"].values())
    rows = [
        {"arm": name, "seed": seed, "folder": place.name, "found": value}
        for name, values in found.items()
        for seed, value in zip(setting.seeds, values, strict=True)
    ]
    middles = (256 / BINS) * (np.arange(BINS) + 0.5)
    drawings = [
        {
            "kind": "curves", "title": f"image {image + 1}: {name}", "reach": [0.0, float(highest)],
            "axis": "intensity (height: % of the values)", "log_x": False,
            "lines": [
                {
                    "name": f"crop {crop + 1}",
                    "points": [[float(x), y] for x, y in zip(middles, shares, strict=True)],
                }
                for crop, shares in enumerate(curves[image])
            ],
        }
        for image in range(min(SHOWN_IMAGES, images))
        for name, curves in known["curves"].items()
    ]  # fmt: skip
    table = {
        "title": "Same-image retrieval from histograms alone",
        "note": f"Of {images:,} images, how often the nearest histogram of a view (sum of absolute "
        f"differences, {BINS} bins over all channels) is that of another view of the same image; "
        f"chance is {100 / images:.2g} %. Mean over draws of views and its 95 % interval.",
        "columns": ["views", "found, per cent"],
        "rows": [[name, shown(values, percent=True)] for name, values in found.items()],
    }
    return {
        "rows": rows, "source": "SimCLR, section 3.1 and figure 6", "drawings": drawings,
        "tables": [table],
        "claims": decide(claims(100 / images), lambda arm, _: found[arm], unit="draw"),
    }  # fmt: skip


def study(options: StudyOptions) -> Study:
    """The study without runs; its draws of views take the place of seeds."""
    setting = Setting.of(options, AMOUNTS)
    return Study(
        name=NAME, claim=QUESTION, claims=tuple(each.text for each in claims(1.0)), cells=(),
        summarize=lambda root: summarize(setting, root), images=setting.count_images,
        card=lambda root: card(setting), scale=setting.scale, measurement=measurement(setting),
    )  # fmt: skip


def card(setting: Setting) -> dict[str, Any]:
    """How it was measured, for the page."""
    return {
        "source": "SimCLR, section 3.1 and figure 6", "scale": setting.scale,
        "data": str(setting.source), "images": f"{setting.amount.images or 'all'}",
        "seeds": ", ".join(str(seed) for seed in setting.seeds),
        "views": "the recipe's crop and flip, without and with its color jitter and gray",
        "selection": "none: nothing is trained",
        **({"recipes": CARD_RECIPES} if KINDS[setting.scale] == "cpu" else {}),
        "tests": CARD_TESTS,
        "published figures": "none: the paper draws the histograms of two images",
    }  # fmt: skip


HISTOGRAMS = CustomExperiment(name=NAME, question=QUESTION, make=study, takes=(*SEEDS, *IMAGES))
EXPERIMENTS = (HISTOGRAMS,)
