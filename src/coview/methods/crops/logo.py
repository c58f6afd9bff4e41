"""LoGo: local crops attract the global crops and repel each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from coview.core.errors import InvalidValue, UnknownName
from coview.methods.affinity import CosineAffinity, Critic, FixedWeight, GradientRatio, Repulsion
from coview.methods.crops.multi_crop import GLOBAL_VIEWS, multi_crop, to_pair_objective
from coview.methods.method import Method
from coview.methods.pair_objectives import InfoNCE

AFFINITIES = ("learned", "cosine", "none")
TERMS = ("sum", "mean")
# The paper's for MoCo-LoGo and SimSiam-LoGo with sums; SimCLR uses MoCo's, BYOL SimSiam's.
CONTRASTIVE_WEIGHT, PREDICTIVE_WEIGHT = 5e-4, 1e-4


def logo(
    method: Method,
    *,
    locals: int = 2,
    local_size: int | None = None,
    r_g: float = 0.4,
    r_l: float = 0.4,
    affinity: Literal["learned", "cosine", "none"] = "learned",
    critic: Critic | None = None,
    weight: float | None = None,
    gradient_ratio: float | None = None,
    terms: Literal["sum", "mean"] = "sum",
) -> Method:
    """``method`` with global views g and local views l of each image:

        loss = L_gg + sum_l sum_g l_s(z_l, stop(z_g)) + lambda mean_{l != l'} l_a(z_l, z_l')

    L_gg is the loss of ``method``, l_s its loss of one pair of views, and l_a the affinity of two
    local views, which is larger for more similar views: "learned" by a critic that distinguishes
    pairs of one image from pairs of two images, "cosine", or "none" (plain multi-crop).

    ``weight`` is lambda (default: the paper's, 5e-4 for contrastive and 1e-4 for predictive
    methods). ``gradient_ratio`` c replaces it by lambda = min(1, c |grad of similarity| / |grad of
    affinity|), as the authors' code does with c = 0.015. ``terms`` "mean" divides the similarities
    by the sum of their weights and does not change lambda. Crop areas: r_g to 1 for global and
    0.05 to r_l for local views; ``local_size`` is the side of local views in pixels.

    Source: Zhang et al., "Leverage your local and global representations: a new self-supervised
    learning strategy", CVPR 2022, equations 3 to 6 and 9, algorithm 1. Raises InvalidValue,
    UnknownName.

    >>> from coview.methods import moco
    >>> logo(moco(64), locals=2).repulsion.views
    (2, 3)
    """
    if affinity not in AFFINITIES:
        raise UnknownName("affinity", str(affinity), AFFINITIES)
    if terms not in TERMS:
        raise UnknownName("way to add terms", str(terms), TERMS)
    if weight is not None and gradient_ratio is not None:
        raise InvalidValue("`weight` and `gradient_ratio` both set lambda; give one of them.")
    if critic is not None and affinity != "learned":
        raise InvalidValue(f"`affinity` is {affinity!r}, which has no critic; leave `critic` out.")
    paired = to_pair_objective(method)
    with_locals = multi_crop(paired, locals=locals, local_size=local_size, r_g=r_g, r_l=r_l)
    total = sum(pair.weight for pair in with_locals.pairing) if terms == "mean" else 1.0
    pairing = tuple(replace(pair, weight=pair.weight / total) for pair in with_locals.pairing)
    if affinity == "none":
        return replace(with_locals, pairing=pairing)
    local_views = tuple(range(len(GLOBAL_VIEWS), len(GLOBAL_VIEWS) + locals))
    if weight is None:
        contrastive = isinstance(paired.objective, InfoNCE)
        weight = CONTRASTIVE_WEIGHT if contrastive else PREDICTIVE_WEIGHT
    repulsion = Repulsion(
        views=local_views,
        affinity=CosineAffinity() if affinity == "cosine" else critic or Critic(),
        balance=FixedWeight(value=weight)
        if gradient_ratio is None
        else GradientRatio(limit=gradient_ratio),
    )
    return replace(with_locals, name=f"logo-{method.name}", pairing=pairing, repulsion=repulsion)
