"""SupCon's gradient against the hardness of positives and negatives: a study without training."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from coview.objectives import sup_con
from coview.options import StudyOptions
from coview.studies.claims import Claim, decide, greater, smaller_gap
from coview.studies.execution import Study, place_of
from coview.studies.experiment import CustomExperiment
from coview.studies.measurement import Measurement, measured
from coview.studies.pair_gradients import Form, by_autograd, by_formula, closed_form, draw
from coview.studies.setting import Amount, Setting
from coview.studies.tables import WHISKERS, line

NAME = "supcon/gradients"
QUESTION = "Do hard positives pull, and hard negatives push, SupCon's features more than easy ones?"
VERSION = 2
"""Of the figures; others are measured anew."""
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
TESTS = (
    "Student's t over seeds, paired, one-sided at 2.5 %; a claim of several comparisons holds if "
    "each of them is shown; Holm over the claims. The claims were written anew when the first "
    "figures, of lengths and with the same seeds, were known (docs/lab/0007)"
)
UNIT = 1_000
"""Parts of the gradient are shown times this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Pairs whose cosine is swept together, the first ``swept`` positives, or one negative where
    it is 0; everything else around the anchor stays."""

    name: str
    swept: int = POSITIVES
    negatives: int = NEGATIVES
    form: Form = "out"
    normalize: bool = True

    @property
    def places(self) -> range:
        """Of the pairs that are swept, among the candidates."""
        return range(self.swept) if self.swept else range(POSITIVES, POSITIVES + 1)


ALL, NEGATIVE, ONE = "all positives", "a negative", "one positive"
ONE_IN, FREE = f"{ONE}, form in", f"{ALL}, without normalization"
FEW, MANY = f"{ALL}, {FEWER} negatives", f"{ALL}, {MORE} negatives"
CURVES = (
    Curve(name=ALL),
    Curve(name=FREE, normalize=False),
    Curve(name=FEW, negatives=FEWER),
    Curve(name=MANY, negatives=MORE),
    Curve(name=ONE, swept=1),
    Curve(name=ONE_IN, swept=1, form="in"),
    Curve(name=NEGATIVE, swept=0),
)
"""Swept together, positives of equal cosine have equal weights in both forms. One alone that
becomes easy has more of the softmax than its weight beside four hard ones, and is pushed away."""


def arm(curve: str, cosine: float) -> str:
    """The name of a figure: a curve at a cosine."""
    return f"{curve} at {cosine:g}"


def measure(seeds: Sequence[int]) -> dict[str, Any]:
    """All figures by autograd and by formula, one for each seed, and how far the two are apart."""
    by_arm, formula = dict[str, list[float]](), dict[str, list[float]]()
    apart = 0.0
    for curve in CURVES:
        for cosine in COSINES:
            found, expected = zip(*(_part(curve, cosine, seed) for seed in seeds), strict=True)
            by_arm[arm(curve.name, cosine)] = [UNIT * value for value in found]
            formula[arm(curve.name, cosine)] = [UNIT * value for value in expected]
            apart = max(apart, *(abs(a - b) for a, b in zip(found, expected, strict=True)))
    return {
        "seeds": list(seeds), "measured": by_arm, "formula": formula,
        "apart": UNIT * apart, "whole": UNIT * max(_whole(seed) for seed in seeds),
    }  # fmt: skip


def _part(curve: Curve, cosine: float, seed: int) -> tuple[float, float]:
    """(by autograd, by formula) times the length of the anchor: how far a positive that is swept
    pulls, or a negative pushes."""
    around = draw(
        positives=POSITIVES, negatives=curve.negatives, width=WIDTH, seed=seed,
        places=curve.places, cosine=cosine,
    )  # fmt: skip
    length = float(around.anchor.norm()) if curve.normalize else 1.0
    wanted = 1 if curve.swept else -1
    found, expected = (
        wanted * length * float(by(
            around, temperature=TEMPERATURE, form=curve.form, normalize=curve.normalize
        )[curve.places[0]])
        for by in (by_autograd, by_formula)
    )  # fmt: skip
    return found, expected


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


CLAIMS = (
    Claim(
        text="Hard positives pull the anchor more than easy ones",
        source="SupCon, supplement: hard mining is intrinsic",
        comparisons=(greater(arm(ALL, HARD), arm(ALL, EASY)),),
    ),
    Claim(
        text="A hard negative pushes the anchor more than an easy one",
        source="SupCon, supplement: hard mining is intrinsic",
        comparisons=(greater(arm(NEGATIVE, STRONG), arm(NEGATIVE, WEAK)),),
    ),
    Claim(
        text="The more negatives, the more hard positives pull, and more so than easy ones",
        source="SupCon, section 3.2.2",
        comparisons=(
            greater(arm(MANY, HARD), arm(FEW, HARD)),
            replace(
                smaller_gap((arm(MANY, EASY), arm(FEW, EASY)), (arm(MANY, HARD), arm(FEW, HARD))),
                text="what more negatives add at hard positives - at easy ones",
            ),
        ),
    ),
)  # fmt: skip


def study(options: StudyOptions) -> Study:
    """Nothing is trained, so that it takes no data and no encoder."""
    setting = Setting.of(options, AMOUNTS)
    seeds, scale = setting.seeds, setting.scale
    return Study(
        name=NAME, claim=QUESTION, claims=tuple(claim.text for claim in CLAIMS), cells=(),
        images=lambda: 0, scale=scale, card=lambda root: card(options, seeds),
        summarize=lambda root: summarize(measured(place_of(NAME, root, scale))),
        measurement=Measurement(of=[VERSION, seeds], measure=lambda: measure(seeds)),
    )  # fmt: skip


def summarize(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Figures, curves and claims of what was measured."""

    def mean(kind: str, name: str) -> float:
        return statistics.fmean(kept[kind][name])

    return {
        "rows": [
            {
                "arm": name, "seed": seed, "measured": values[place],
                "formula": kept["formula"][name][place],
            }
            for name, values in kept["measured"].items()
            for place, seed in enumerate(kept["seeds"])
        ],
        "drawings": [
            _drawing("Positives, all swept", (FEW, ALL, MANY, FREE), kept),
            _drawing("One positive beside four hard ones", (ONE, ONE_IN), kept),
            _drawing("A negative", (NEGATIVE,), kept),
        ],
        "tables": [
            {
                "title": "Figures",
                "note": f"How far one positive pulls the anchor and one negative pushes it, times "
                f"{UNIT:,}; below 0 a positive pushes. Means over the seeds, by autograd; the "
                "formula's are the same to the digits that are shown, the largest difference is "
                f"{kept['apart']:.0e}. The gradient of `sup_con` on whole batches is "
                f"{kept['whole']:.0e} from its closed form, times {UNIT:,} too.",
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


def _drawing(title: str, names: Sequence[str], lengths: Mapping[str, Any]) -> dict[str, Any]:
    """Curves of what was measured; of one alone the formula's beside it."""

    def values(kind: str, name: str) -> dict[float, list[float]]:
        return {cosine: lengths[kind][arm(name, cosine)] for cosine in COSINES}

    lines = [line(name, values("measured", name)) for name in names]
    if len(names) == 1:
        formula = line(f"{names[0]}, formula", values("formula", names[0]))
        lines.append({**formula, "intervals": []})
    return {
        "kind": "curves", "title": title, "axis": "cosine of the pair", "note": WHISKERS,
        "lines": lines,
    }  # fmt: skip


def card(options: StudyOptions, seeds: Sequence[int]) -> dict[str, Any]:
    """How it was measured, for the page."""
    return {
        "source": "SupCon, section 3.2.2 and supplement", "scale": options.scale,
        "data": "random unit rows, no images and no network",
        "what is swept": "the cosine of all positives, of one, or of one negative; the other "
        "candidates are the same",
        "around an anchor": f"{POSITIVES} positives and {NEGATIVES} negatives, {WIDTH} wide, "
        f"temperature {TEMPERATURE:g}",
        "what is measured": "how far a step of size 1 down the loss moves the anchor w toward the "
        "candidate, times |w|: by autograd, with a copy of the anchor for each pair, and by the "
        "formula",
        "seeds": f"{seeds[0]} to {seeds[-1]}",
        "tests": TESTS,
    }  # fmt: skip


GRADIENTS = CustomExperiment(name=NAME, question=QUESTION, make=study)
