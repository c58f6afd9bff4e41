"""SimCLR's experiments on augmentation (Chen et al., 2020): pairs of operations, one branch or two,
and what the projection head is invariant to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from coview.recipes import Recipe
from coview.studies.arms import Arm
from coview.studies.claims import Claim, Comparison, Term, gain, greater
from coview.studies.experiment import Experiment
from coview.studies.grid import Grid
from coview.studies.measure import CONTRASTIVE, LINEAR, LINEAR_Z, PRETEXT, Measure
from coview.studies.setting import AMOUNTS, Setting
from coview.views import (
    STUDIED,
    Noise,
    Rotate90,
    ViewPlan,
    asymmetric,
    composition,
    simclr_views,
)

PUBLISHED_PAIRS = {
    "crop": (33.1, 33.9, 56.3, 46.0, 39.9, 35.0, 30.2),
    "cutout": (32.2, 25.6, 33.9, 40.0, 26.5, 25.2, 22.4),
    "color": (55.8, 35.5, 18.8, 21.0, 11.4, 16.5, 20.8),
    "sobel": (46.2, 40.6, 20.9, 4.0, 9.3, 6.2, 4.2),
    "noise": (38.8, 25.8, 7.5, 7.6, 9.8, 9.8, 9.6),
    "blur": (35.1, 25.2, 16.6, 5.8, 9.7, 2.6, 6.7),
    "rotate": (30.0, 22.5, 20.7, 4.3, 9.7, 6.5, 2.6),
}
"""Rows of figure 5, columns in the same order."""
NEAR = 5.0
"""In points: what comes near the best pair."""
INVARIANCES = {
    "color": (99.3, 97.4), "rotation": (67.6, 25.6), "noise": (99.5, 59.6), "sobel": (96.6, 56.3),
}  # fmt: skip
"""Of table 3: the transformation -> how often it is told from h and from z."""


def with_views(recipe: Recipe, plan: ViewPlan) -> Recipe:
    """``recipe`` with other views, normalized as its own."""
    first = recipe.first_view
    views = tuple(replace(view, mean=first.mean, std=first.std) for view in plan.views)
    return replace(recipe, method=replace(recipe.method, views=ViewPlan(views=views)))


def cropped_as(recipe: Recipe, plan: ViewPlan) -> ViewPlan:
    """``plan`` with the recipe's crop in place of every one of its own.

    It may be larger than the paper's: of a crop of a crop of 32 px little may be left.
    """
    crop = recipe.first_view.crop
    views = tuple(
        replace(view, crop=crop, second_crop=None if view.second_crop is None else crop)
        for view in plan.views
    )
    return ViewPlan(views=views)


def pairs(setting: Setting) -> Grid:
    """One operation after another on one branch, in both orders; the same alone on the diagonal."""
    base = setting.recipe("simclr")

    def arm(first: str, place: int, second: str) -> Arm:
        names = (first,) if first == second else (first, second)
        plan = composition(base.image_size, *names, in_order=True)
        made = with_views(base, cropped_as(base, plan))
        return setting.arm(
            pair(first, second), made, runs=" then ".join(names), row=first,
            column=second, published=PUBLISHED_PAIRS[first][place], protocols=PRETEXT,
        )  # fmt: skip

    return Grid(
        source="SimCLR, section 3.1 and figure 5",
        arms=tuple(
            arm(first, place, second)
            for first in STUDIED
            for place, second in enumerate(STUDIED)
        ),
        measures=(LINEAR, CONTRASTIVE), drawn="matrix", row_mean="row mean",
        axis="Rows: the first operation; columns: the second; on the diagonal the operation alone.",
        published="ResNet-50 on ImageNet, linear, top-1, of figure 5",
        claims=pair_claims(tuple(STUDIED)), notes=PAIR_NOTES,
    )  # fmt: skip


PAIR_NOTES = (
    "both branches take one random crop, resized; then one branch alone takes the operations, each "
    "on what the one before has left; crop is a second random crop with a flip, of the recipe's "
    "share of the area",
    "cutout: one gray square of half the side; Sobel: gradient magnitude of the gray image; noise: "
    "sigma 0.05 to 0.2; blur: sigma 0.1 to 2 pixels; color: jitter of the policy with probability "
    "1 and gray with 0.2; rotate: 90, 180 or 270 degrees. The paper does not print its numbers",
    "the published figures are from memory and not checked against figure 5",
    "contrastive: how often the other view of a test image is the nearest of those of all test "
    "images, at most 4,096, with the views of the arm",
    "crop, temperature and learning rate of all arms are the recipe's, which were chosen for crop "
    "with color",
)


def pair(first: str, second: str) -> str:
    """The name of an arm.

    >>> pair("crop", "color"), pair("blur", "blur")
    ('crop, color', 'blur')
    """
    return first if first == second else f"{first}, {second}"


def pair_claims(names: Sequence[str]) -> tuple[Claim, ...]:
    """What the paper says of its matrix."""
    best = mean_of_orders("crop", "color")
    kinds = [(name, name) for name in names] + list(combinations(names, 2))
    others = [kind for kind in kinds if set(kind) != {"crop", "color"}]
    rows = {name: tuple(Term(pair(name, other), 1 / len(names)) for other in names)
            for name in names}  # fmt: skip

    def above(kind: tuple[str, str], by: float = 0.0) -> Comparison:
        return Comparison(
            text=f"crop with color - {' with '.join(dict.fromkeys(kind))}", above=by,
            terms=(*best, *negative(mean_of_orders(*kind))),
        )  # fmt: skip

    return (
        Claim(
            text="Crop with color, in either order, is better than every other kind of pair and "
            "every single operation",
            source="SimCLR, section 3.1", comparisons=tuple(above(kind) for kind in others),
        ),
        Claim(
            text=f"No single operation comes within {NEAR:g} points of crop with color",
            source="SimCLR, section 3.1",
            comparisons=tuple(above((name, name), NEAR) for name in names),
        ),
        Claim(
            text="Crop has the best mean over its row", source="SimCLR, figure 5",
            comparisons=tuple(
                Comparison(
                    text=f"mean of the row crop - of {name}",
                    terms=(*rows["crop"], *negative(rows[name])),
                )
                for name in names
                if name != "crop"
            ),
        ),
        _easier_claim(names, best),
    )  # fmt: skip


def _easier_claim(names: Sequence[str], best: Sequence[Term]) -> Claim:
    """Of the pretext task of single operations, beside that of the ``best`` pair."""
    return Claim(
        text="Every single operation leaves an easier pretext task than crop with color: the "
        "other view is found more often",
        source="SimCLR, section 3.1",
        comparisons=tuple(
            Comparison(
                text=f"contrastive accuracy of {name} - of crop with color",
                terms=(
                    Term(name, 1, CONTRASTIVE.name),
                    *(replace(term, measure=CONTRASTIVE.name) for term in negative(best)),
                ),
            )
            for name in names
        ),
    )


def mean_of_orders(first: str, second: str) -> tuple[Term, ...]:
    """The mean of both orders of two operations, or the one alone."""
    if first == second:
        return (Term(first),)
    return (Term(pair(first, second), 0.5), Term(pair(second, first), 0.5))


def negative(terms: Sequence[Term]) -> tuple[Term, ...]:
    """The terms with the opposite weights."""
    return tuple(replace(term, weight=-term.weight) for term in terms)


def branches(setting: Setting) -> Grid:
    """SimCLR's policy on one branch, the other only cropped and flipped, against both."""
    base = setting.recipe("simclr")
    plans = {
        "two branches": simclr_views(base.image_size),
        "one branch": asymmetric(base.image_size),
    }

    def arm(name: str) -> Arm:
        made = with_views(base, cropped_as(base, plans[name]))
        return setting.arm(name, made, protocols=PRETEXT)

    return Grid(
        source="SimCLR, section 3.1",
        arms=tuple(arm(name) for name in plans), measures=(LINEAR, CONTRASTIVE),
        claims=(
            Claim(
                text="Augmenting both branches is better than one",
                source="SimCLR, section 3.1 (one branch hurts)",
                comparisons=(greater("two branches", "one branch"),),
            ),
        ),
    )  # fmt: skip


def invariance(setting: Setting) -> Grid:
    """Which transformation an image got, from h and from z; the linear accuracy of both.

    As in the paper rotation, noise and Sobel are in the views that the network is trained with.
    """
    base = setting.recipe("simclr")
    views = tuple(
        replace(view, rotate90=Rotate90(), sobel=0.5, noise=Noise(probability=0.5))
        for view in base.method.views.views
    )
    made = with_views(base, ViewPlan(views=views))
    measures = {
        (task, layer): Measure(
            name=f"{task}, {layer}", protocol="invariance", layer=layer, setting=(("task", task),)
        )
        for task in INVARIANCES
        for layer in ("h", "z")
    }
    published = {
        measures[task, layer].name: figure
        for task, figures in INVARIANCES.items()
        for layer, figure in zip("hz", figures, strict=True)
    }
    arm = setting.arm(
        "SimCLR", made, runs="rotated, noised, filtered", protocols=("linear", "invariance"),
        published=published,
    )  # fmt: skip

    return Grid(
        source="SimCLR, section 4.2 and table 3", arms=(arm,),
        measures=(LINEAR, LINEAR_Z, *measures.values()),
        published="ResNet-50 on ImageNet",
        notes=(
            "chance is 80 for color or gray, 25 for rotation, 50 for noise and for Sobel",
            "h has the width of the encoder, z that of the head's output, which is smaller here; "
            "in the paper both have 2,048. A narrower z alone tells less",
            "that z has lost the transformation, down to chance, is not among the claims",
            "gray is in SimCLR's own policy; rotation, noise and Sobel were added to it by chance",
        ),
        claims=(
            Claim(
                text="Which transformation was applied is told less well from z than from h",
                source="SimCLR, table 3",
                comparisons=tuple(
                    gain(arm.name, measures[task, "h"].name, measures[task, "z"].name)
                    for task in INVARIANCES
                ),
            ),
            Claim(
                text="h is better than z by more than 10 points of linear accuracy",
                source="SimCLR, section 4.2",
                comparisons=(gain(arm.name, LINEAR.name, LINEAR_Z.name, by=10.0),),
            ),
        ),
    )  # fmt: skip


PAIRS = Experiment(
    name="simclr/pairs", grid=pairs,
    question="Which two operations of augmentation make good features together?",
    # 196 runs, about 90 minutes on two cores. Of four claims the first must be shown at 2.5 / 4 %:
    # with three seeds by a difference of five of their deviations, with four by half as much.
    amounts={
        "cpu": replace(AMOUNTS["cpu"], epochs=16, seeds=4),
        "gpu": replace(AMOUNTS["gpu"], epochs=20, encoder="resnet18/2-small"),
    },
)  # fmt: skip
BRANCHES = Experiment(
    name="simclr/branches", grid=branches,
    question="Is it better to augment one branch or both?",
    amounts={"cpu": replace(AMOUNTS["cpu"], seeds=5)},
)  # fmt: skip
INVARIANCE = Experiment(
    name="simclr/invariance", grid=invariance,
    question="Does the projection head lose which transformation was applied to an image?",
    amounts={"cpu": replace(AMOUNTS["cpu"], seeds=5)},
)  # fmt: skip
EXPERIMENTS = (PAIRS, BRANCHES, INVARIANCE)
