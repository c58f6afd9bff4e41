"""BYOL: predict the momentum encoder's embedding of the other view; no negatives."""

from __future__ import annotations

from coview.heads import HeadSpec
from coview.methods.method import Method, Pair
from coview.methods.pair_objectives import SquaredDistance
from coview.methods.target import EMA
from coview.views import ViewPlan, preset


def byol(
    size: int,
    *,
    momentum: tuple[float, float] = (0.996, 1.0),
    views: ViewPlan | None = None,
    head: HeadSpec | None = None,
    predictor: HeadSpec | None = None,
) -> Method:
    """p = q(g(f(view))), k = g'(f'(view)) with f', g' the moving average of f, g:

        loss = |p_1 / |p_1| - k_2 / |k_2||^2 + |p_2 / |p_2| - k_1 / |k_1||^2

    ``size`` is the side of the views in pixels. ``momentum`` goes from the first to the second
    number along half a cosine. ``views``, ``head`` and ``predictor`` replace the paper's. Each view
    has its own BatchNorm statistics.

    Source: Grill et al., "Bootstrap your own latent", NeurIPS 2020, equations 2 and 3, appendix J.

    >>> byol(32).target
    EMA(start=0.996, end=1.0)
    """
    layers = HeadSpec(hidden=4096, output=256, batch_norm="hidden", bias="hidden", init="torch")
    start, end = momentum
    return Method(
        name="byol", views=views or preset("byol", size), head=head or layers,
        predictor=predictor or layers, objective=SquaredDistance(),
        target=EMA(start=start, end=end), pairing=(Pair(0, 1), Pair(1, 0)), batch_norm="per view",
    )  # fmt: skip
