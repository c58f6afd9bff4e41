"""LoGo's transfer to detection and segmentation (Zhang et al., CVPR 2022, table 6): needs annotated
images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coview.recipes import Recipe, recipe
from coview.studies.arms import Arm
from coview.studies.cell import Cell
from coview.studies.claims import Claim, best
from coview.studies.experiment import Experiment
from coview.studies.grid import Grid
from coview.studies.logo import FOLLOWED, NOT_SEEN, ORIGIN, four_ways
from coview.studies.measure import Measure
from coview.studies.setting import Setting, ordered, place_of_data

BOXES = tuple(
    Measure(name=metric, protocol="detect", metric=metric, layer="boxes", subject="fine-tuned")
    for metric in ("AP50", "AP")
)
PIXELS = (
    Measure(name="mIoU", protocol="detect", metric="mIoU", layer="pixels", subject="fine-tuned"),
)
RECIPES: Mapping[bool, Mapping[str, str]] = {
    False: {"tiny": "detect-cpu", "cpu": "detect-cpu", "gpu": "detect-cpu", "paper": "voc-24k"},
    True: {
        "tiny": "segment-cpu", "cpu": "segment-cpu", "gpu": "segment-cpu", "paper": "voc-fcn-30k",
    },
}  # fmt: skip
"""Whether pixels are learned -> the recipe of a scale."""
SCRATCH = "no pretraining"


def dense(setting: Setting) -> Grid:
    """A detector, or a segmenter, on each pretrained encoder."""
    place = place_of_data(setting.options.annotated, "annotated")
    pixels = isinstance(place, str) and (Path(place) / "masks").is_dir()
    measures = PIXELS if pixels else BOXES
    ways = four_ways(setting, "MoCo")
    first = next(iter(ways))

    def arm(name: str, made: Recipe, *, scratch: bool = False) -> Arm:
        def cell(seed: int) -> Cell:
            start = setting.pretrain(name, made, seed, protocols=(), follow=FOLLOWED)
            return fine_tuned(setting, name, start, seed, place, pixels=pixels, scratch=scratch)

        return Arm(name=name, cell=cell)

    # Without pretraining the run of the base gives the architecture alone.
    arms = (
        *(arm(name, made) for name, made in ways.items()), arm(SCRATCH, ways[first], scratch=True),
    )  # fmt: skip
    plain, long, several, full = ways
    return Grid(
        source=f"{ORIGIN}, table 6", arms=arms,
        measures=measures, data=f"{setting.source}; annotated: {place}",
        notes=(
            *NOT_SEEN,
            "each encoder is fine-tuned whole, for the epochs of the recipe of `coview detect`",
        ),
        claims=(
            Claim(
                text="LoGo transfers better than its base, at equal epochs and equal views",
                source=f"{ORIGIN}, table 6", comparisons=best(full, (plain, long)),
            ),
            Claim(
                text="LoGo transfers better than multi-crop", source=ORIGIN,
                comparisons=best(full, (several,)),
            ),
            Claim(
                text="LoGo transfers better than no pretraining", source=ORIGIN,
                comparisons=best(full, (SCRATCH,)),
            ),
        ),
    )  # fmt: skip


def fine_tuned(
    setting: Setting, name: str, start: Cell, seed: int, place: str | tuple[str, ...], *,
    pixels: bool, scratch: bool,
) -> Cell:  # fmt: skip
    """The cell of `coview detect` on the run of ``start``; ``scratch``: with random weights."""
    base = recipe(RECIPES[pixels][setting.scale])
    settings = {
        "start": start, "data": place, "recipe": base.name, "seed": seed, "no_baselines": True,
        "epochs": 1.0 if setting.scale == "tiny" else base.epochs,
        **({"from_scratch": True} if scratch else {}),
    }  # fmt: skip
    return Cell(name=f"{name}, detect, seed {seed}", verb="detect", settings=ordered(settings))


DENSE = Experiment(
    name="logo/dense", grid=dense, needs=("annotated",),
    question="Does LoGo transfer better to detection or segmentation than its base?",
)  # fmt: skip
EXPERIMENTS = (DENSE,)
