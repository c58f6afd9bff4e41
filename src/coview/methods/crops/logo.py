"""LoGo: local crops are drawn to the global ones and away from each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from coview.core.errors import InvalidValue, UnknownName
from coview.methods.affinity import (
    CosineAffinity,
    Critic,
    FixedWeight,
    GradientRatio,
    Repulsion,
)
from coview.methods.crops.multi_crop import GLOBALS, in_pairs, multi_crop
from coview.methods.method import Method
from coview.methods.pair_objectives import InfoNCE

AFFINITIES = ("learned", "cosine", "none")
TERMS = ("sum", "mean")
# The paper's, of MoCo-LoGo and SimSiam-LoGo, for sums; SimCLR and BYOL take that of their kin.
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

    L_gg is the loss of ``method``, l_s that of one pair of its views, and l_a the affinity of two
    local views, which is larger for more similar ones: "learned" by a critic that tells pairs of
    one image from pairs of two, the "cosine", or "none", which is multi-crop alone.

    ``weight`` is lambda (default: the paper's, 5e-4 for contrastive and 1e-4 for predictive
    methods); ``gradient_ratio`` c takes instead lambda = min(1, c |grad of similarity| / |grad of
    affinity|), as the authors' code does with c = 0.015. ``terms`` "mean" divides the similarities
    by the sum of their weights and leaves lambda as it is. Crops: area r_g to 1 and 0.05 to r_l,
    locals of ``local_size`` pixels.

    Source: Zhang et al., "Leverage your local and global representations: a new self-supervised
    learning strategy", CVPR 2022, equations 3 to 6 and 9, algorithm 1. Raises InvalidValue,
    UnknownName.
    """
    if affinity not in AFFINITIES:
        raise UnknownName("affinity", str(affinity), AFFINITIES)
    if terms not in TERMS:
        raise UnknownName("way to add terms", str(terms), TERMS)
    if weight is not None and gradient_ratio is not None:
        raise InvalidValue("Either weight is lambda or gradient_ratio finds it; give one of them.")
    if critic is not None and affinity != "learned":
        raise InvalidValue(f"The affinity is {affinity!r}, which has no critic; leave it out.")
    paired = in_pairs(method)
    with_locals = multi_crop(paired, locals=locals, local_size=local_size, r_g=r_g, r_l=r_l)
    total = sum(pair.weight for pair in with_locals.pairing) if terms == "mean" else 1.0
    pairing = tuple(replace(pair, weight=pair.weight / total) for pair in with_locals.pairing)
    if affinity == "none":
        return replace(with_locals, pairing=pairing)
    slots = tuple(range(len(GLOBALS), len(GLOBALS) + locals))
    if weight is None:
        contrastive = isinstance(paired.objective, InfoNCE)
        weight = CONTRASTIVE_WEIGHT if contrastive else PREDICTIVE_WEIGHT
    repulsion = Repulsion(
        views=slots,
        affinity=CosineAffinity() if affinity == "cosine" else critic or Critic(),
        balance=FixedWeight(value=weight)
        if gradient_ratio is None
        else GradientRatio(limit=gradient_ratio),
    )
    return replace(with_locals, name=f"logo-{method.name}", pairing=pairing, repulsion=repulsion)
