"""SimCLR's table 1 (Chen et al., 2020): strength of color distortion, with and without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from coview.recipes import Recipe
from coview.studies.arms import Arm
from coview.studies.claims import Claim, greater, rising
from coview.studies.experiment import Experiment
from coview.studies.grid import Grid
from coview.studies.setting import AMOUNTS, Setting
from coview.studies.simclr_views import with_views
from coview.views import (
    MAX_CIFAR_SIZE,
    AutoAugment,
    Blur,
    ViewPlan,
    auto_augmented,
    jitter_of_strength,
)

STRENGTHS = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1))
BLURRED, LEARNED = "1 and blur", "AutoAugment"
COLUMNS = (*map(str, STRENGTHS), BLURRED, LEARNED)
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "SimCLR": dict(zip(COLUMNS, (59.6, 61.0, 62.6, 63.2, 64.5, 61.1), strict=True)),
    "supervised": dict(zip(COLUMNS, (77.0, 76.7, 76.5, 75.7, 75.4, 77.1), strict=True)),
}
METHODS: Mapping[str, str] = {"SimCLR": "simclr", "supervised": "supervised"}


def color(setting: Setting) -> Grid:
    """Color jitter of several strengths, with blur, and AutoAugment in its place."""
    arms = tuple(
        arm
        for method, word in METHODS.items()
        for arm in method_arms(setting, method, setting.recipe(word))
    )
    large = setting.recipe("simclr").image_size > MAX_CIFAR_SIZE

    def steps(method: str) -> list[str]:
        names = [f"{method}, {strength}" for strength in STRENGTHS]
        # SimCLR leaves blur out at 32 px.
        return [*names, f"{method}, {BLURRED}"] if large else names

    return Grid(
        source="SimCLR, section 3.2 and table 1",
        arms=arms, drawn="curve", axis="strength of the color jitter",
        published="ResNet-50 on ImageNet, top-1: SimCLR 100 epochs and linear, supervised 90",
        notes=(
            "all views have the recipe's crop, flip and gray; AutoAugment has crop and flip alone, "
            "and is the policy of CIFAR-10 up to 32 px, else that of ImageNet",
            "the paper itself takes strength 1/2 for CIFAR-10 (appendix B.9); its claims are of "
            "ImageNet",
            "the figure of the supervised network is a linear classifier on h, like SimCLR's",
            "the learning rates of the recipes were chosen at their own strength: 1/2 on a CPU",
        ),
        claims=(
            Claim(
                text="SimCLR gains from stronger color distortion", source="SimCLR, table 1",
                comparisons=(rising(steps("SimCLR")),),
            ),
            Claim(
                text="Supervised training does not gain: it falls", source="SimCLR, table 1",
                comparisons=(rising(steps("supervised"), sign=-1),),
            ),
            Claim(
                text="AutoAugment is worse than strong color distortion for SimCLR",
                source="SimCLR, section 3.2",
                comparisons=(greater("SimCLR, 1", f"SimCLR, {LEARNED}"),),
            ),
            Claim(
                text="AutoAugment is better than strong color distortion for supervised training",
                source="SimCLR, table 1",
                comparisons=(greater(f"supervised, {LEARNED}", "supervised, 1"),),
            ),
        ),
    )  # fmt: skip


def method_arms(setting: Setting, method: str, base: Recipe) -> tuple[Arm, ...]:
    """The columns of the table for one method; without that of blur up to 32 px."""
    size, first = base.image_size, base.first_view
    small = size <= MAX_CIFAR_SIZE
    views = {
        str(strength): replace(first, jitter=jitter_of_strength(float(strength)), blur=None)
        for strength in STRENGTHS
    }
    if not small:
        views[BLURRED] = replace(views[str(STRENGTHS[-1])], blur=Blur(probability=0.5))
    policy = AutoAugment(policy="cifar10" if small else "imagenet")
    assert first.crop is not None
    views[LEARNED] = auto_augmented(size, policy, area=first.crop.area).views[0]
    places = {str(strength): float(strength) for strength in STRENGTHS}

    def arm(column: str) -> Arm:
        count = len(base.method.views.views)
        made = with_views(base, ViewPlan(views=(views[column],) * count))
        return setting.arm(
            f"{method}, {column}", made, row=method, published=PUBLISHED[method][column],
            x=places.get(column),
        )  # fmt: skip

    return tuple(arm(column) for column in views)


COLOR = Experiment(
    name="simclr/color", grid=color,
    question="How strong must color distortion be, for SimCLR and for supervised training?",
    amounts={"cpu": replace(AMOUNTS["cpu"], seeds=5)},
)  # fmt: skip
EXPERIMENTS = (COLOR,)
