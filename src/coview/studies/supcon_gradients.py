"""SupCon's gradient against the hardness of positives and negatives: a study without training."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from coview.core.files import write_json
from coview.core.run_folder import read_object
from coview.objectives import sup_con
from coview.options import StudyOptions
from coview.studies.claims import Claim, decide, greater, smaller_gap
from coview.studies.execution import Study, place_of
from coview.studies.experiment import SEEDS, refuse_others
from coview.studies.grid import CARD_TESTS
from coview.studies.pair_gradients import Form, by_autograd, by_formula, closed_form, draw
from coview.studies.setting import Amount, Setting

NAME = "supcon/gradients"
QUESTION = "Do hard positives and hard negatives move SupCon's features more than easy ones?"
FILE = "gradients.json"
VERSION = 1
"""Of the figures in the file; others are measured anew."""
COSINES = (-0.95, -0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)
EASY, HARD = 0.99, 0.0
"""Cosines of an easy and of a hard positive (supplement: about 1 and about 0)."""
WEAK, STRONG = -0.95, 0.0
"""Of an easy and of a hard negative: about -1 and about 0."""
TEMPERATURE, WIDTH, POSITIVES, NEGATIVES = 0.1, 64, 5, 64
FEWER, MORE = 16, 256
"""Negatives of the comparison by their number."""
AMOUNTS: Mapping[str, Amount] = {
    scale: Amount(images=None, epochs=None, seeds=20) for scale in ("cpu", "gpu", "paper")
}
UNIT = 1_000
"""Lengths are shown times this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A pair whose cosine is swept; everything else around the anchor stays."""

    name: str
    positive: bool = True
    negatives: int = NEGATIVES
    form: Form = "out"
    normalize: bool = True


CURVES = (
    Curve(name="positive"),
    Curve(name="negative", positive=False),
    Curve(name="positive, form in", form="in"),
    Curve(name="positive, without normalization", normalize=False),
    Curve(name=f"positive, {FEWER} negatives", negatives=FEWER),
    Curve(name=f"positive, {MORE} negatives", negatives=MORE),
)


def arm(curve: str, cosine: float) -> str:
    """The name of a figure: a curve at a cosine."""
    return f"{curve} at {cosine:g}"


def measure(seeds: Sequence[int]) -> dict[str, Any]:
    """All lengths by autograd and by formula, one for each seed, and how far the two are apart."""
    measured, formula = dict[str, list[float]](), dict[str, list[float]]()
    apart = 0.0
    for curve in CURVES:
        for cosine in COSINES:
            found, expected = zip(*(_pair(curve, cosine, seed) for seed in seeds), strict=True)
            measured[arm(curve.name, cosine)] = [UNIT * value for value in found]
            formula[arm(curve.name, cosine)] = [UNIT * value for value in expected]
            apart = max(apart, *(abs(a - b) for a, b in zip(found, expected, strict=True)))
    return {
        "version": VERSION, "seeds": list(seeds), "measured": measured, "formula": formula,
        "apart": UNIT * apart, "whole": UNIT * max(_whole(seed) for seed in seeds),
    }  # fmt: skip


def _pair(curve: Curve, cosine: float, seed: int) -> tuple[float, float]:
    """(by autograd, by formula), each times the length of the anchor."""
    place = 0 if curve.positive else POSITIVES
    around = draw(
        positives=POSITIVES, negatives=curve.negatives, width=WIDTH, seed=seed, place=place,
        cosine=cosine,
    )  # fmt: skip
    length = float(around.anchor.norm())
    found = by_autograd(
        around, temperature=TEMPERATURE, form=curve.form, normalize=curve.normalize
    )[place]
    expected = length * float(by_formula(around, temperature=TEMPERATURE, form=curve.form)[place])
    if curve.normalize:
        return length * float(found), expected
    # Of a unit row, and of the whole candidate instead of its part across the anchor.
    return float(found), expected / (1 - cosine**2) ** 0.5


def _whole(seed: int) -> float:
    """How far the gradient of ``coview.objectives.sup_con`` is from the formula, on one batch."""
    generator = torch.Generator().manual_seed(seed)
    views = torch.randn(2, 24, WIDTH, generator=generator, dtype=torch.float64)
    labels = [image % 6 for image in range(24)]
    rows = views.flatten(0, 1).requires_grad_()
    loss = sup_con(list(rows.view(2, 24, WIDTH)), torch.tensor(labels), temperature=TEMPERATURE)
    (found,) = torch.autograd.grad(loss, rows)
    expected = closed_form(rows.detach(), labels * 2, TEMPERATURE)
    return float((found - expected).abs().max())


_FEW, _MANY = f"positive, {FEWER} negatives", f"positive, {MORE} negatives"
_FREE = "positive, without normalization"
CLAIMS = (
    Claim(
        text="A hard positive moves the anchor more than an easy one",
        source="SupCon, supplement: hard mining is intrinsic",
        comparisons=(greater(arm("positive", HARD), arm("positive", EASY)),),
    ),
    Claim(
        text="A hard negative moves the anchor more than an easy one",
        source="SupCon, supplement: hard mining is intrinsic",
        comparisons=(greater(arm("negative", STRONG), arm("negative", WEAK)),),
    ),
    Claim(
        text="The more negatives, the more a hard positive moves the anchor, and more so than an "
        "easy one",
        source="SupCon, section 3.2.2",
        comparisons=(
            greater(arm(_MANY, HARD), arm(_FEW, HARD)),
            replace(
                smaller_gap((arm(_MANY, EASY), arm(_FEW, EASY)),
                            (arm(_MANY, HARD), arm(_FEW, HARD))),
                text="what more negatives add at a hard positive - at an easy one",
            ),
        ),
    ),
    Claim(
        text="It is normalization that spares easy positives: it takes more from the part of an "
        "easy one than from that of a hard one",
        source="SupCon, supplement: hard mining is intrinsic",
        comparisons=(
            replace(
                smaller_gap((arm(_FREE, HARD), arm("positive", HARD)),
                            (arm(_FREE, EASY), arm("positive", EASY))),
                text="what normalization takes from an easy positive - from a hard one",
            ),
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Gradients:
    """The study among the others; nothing is trained, so that it takes no data and no encoder."""

    name: str = NAME
    question: str = QUESTION
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = SEEDS

    def study(self, options: StudyOptions) -> Study:
        refuse_others(NAME, options, self.takes)
        seeds = Setting.of(options, AMOUNTS).seeds
        return Study(
            name=NAME, claim=QUESTION, claims=tuple(claim.text for claim in CLAIMS), cells=(),
            images=lambda: 0,
            summarize=lambda root: summarize(root, seeds), card=lambda root: card(options, seeds),
        )  # fmt: skip


def summarize(root: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Figures, curves and claims; what was measured is kept in the folder of the study."""
    path = place_of(NAME, root) / FILE
    kept = read_object(path) or {}
    if kept.get("version") != VERSION or kept.get("seeds") != list(seeds):
        kept = measure(seeds)
        write_json(path, kept)

    def mean(kind: str, name: str) -> float:
        return statistics.fmean(kept[kind][name])

    longest = max(COSINES, key=lambda cosine: mean("measured", arm("positive", cosine)))
    return {
        "rows": [
            {
                "arm": name, "seed": seed, "length": values[place],
                "formula": kept["formula"][name][place],
            }
            for name, values in kept["measured"].items()
            for place, seed in enumerate(kept["seeds"])
        ],
        "drawings": [
            _drawing("Positives", ("positive", _FREE, "positive, form in"), mean),
            _drawing("Negatives", ("negative",), mean),
            _drawing("Positives, by the number of negatives", (_FEW, "positive", _MANY), mean),
        ],
        "tables": [
            {
                "title": "Figures",
                "note": f"Length of one pair's part of the gradient, times {UNIT:,}: mean over the "
                "seeds, by autograd; the formula's is the same to the digits that are shown. The "
                f"largest difference is {kept['apart']:.0e}. The gradient of `sup_con` on whole "
                f"batches is {kept['whole']:.0e} from its closed form, times {UNIT:,} too. Of all "
                f"cosines a positive's part is longest at {longest:g}, not at {HARD:g}: where its "
                "softmax exceeds its weight, a positive is pushed away. At 0.95 the part is "
                f"{mean('measured', arm('positive', 0.95)):,.0f} and at {HARD:g} "
                f"{mean('measured', arm('positive', HARD)):,.0f}: a positive is spared very near "
                "to 1 alone.",
                "columns": ["cosine", *(curve.name for curve in CURVES)],
                "rows": [
                    [f"{cosine:g}", *(f"{mean('measured', arm(curve.name, cosine)):,.1f}"
                                      for curve in CURVES)]
                    for cosine in COSINES
                ],
            }
        ],
        "claims": decide(CLAIMS, lambda name, _: kept["measured"][name]),
    }  # fmt: skip


def _drawing(title: str, names: Sequence[str], mean: Callable[[str, str], float]) -> dict[str, Any]:
    return {
        "kind": "curves", "title": title, "axis": "cosine of the pair",
        "lines": [
            {
                "name": f"{name}{'' if kind == 'measured' else ', formula'}",
                "points": [[cosine, mean(kind, arm(name, cosine))] for cosine in COSINES],
            }
            for name in names
            for kind in ("measured", *(("formula",) if len(names) == 1 else ()))
        ],
    }  # fmt: skip


def card(options: StudyOptions, seeds: Sequence[int]) -> dict[str, Any]:
    """How it was measured, for the page."""
    return {
        "source": "SupCon, section 3.2.2 and supplement", "scale": options.scale,
        "data": "random unit rows, no images and no network",
        "what is swept": "the cosine of one pair; the other candidates are the same",
        "around an anchor": f"{POSITIVES} positives and {NEGATIVES} negatives, {WIDTH} wide, "
        f"temperature {TEMPERATURE:g}",
        "what is measured": "the length of the pair's part of dl/dw times |w|: by autograd, with a "
        "copy of the anchor for each pair, and by the formula",
        "seeds": f"{seeds[0]} to {seeds[-1]}",
        "tests": CARD_TESTS,
    }  # fmt: skip


GRADIENTS = _Gradients()
