"""SimCLR: two views of one image attract each other, all other rows of the batch repel."""

from __future__ import annotations

from coview.heads import HeadSpec
from coview.methods.method import Method
from coview.methods.set_objectives import NTXent
from coview.views import ViewPlan, simclr_views


def simclr(
    size: int,
    *,
    temperature: float = 0.5,
    views: ViewPlan | None = None,
    head: HeadSpec | None = None,
) -> Method:
    """z = g(f(view)) for two views of each image; over all rows i, with p the other view of i,

        loss = mean_i -log [ exp(z_i . z_p / tau) / sum_{k != i} exp(z_i . z_k / tau) ]

    ``size`` is the side of the views in pixels. tau is 0.5 as for CIFAR-10 (appendix B.9); the
    ImageNet experiments use 0.1. ``views`` and ``head`` replace the paper's. Both views share
    BatchNorm statistics, as in the authors' code.

    Source: Chen et al., "A simple framework for contrastive learning of visual representations",
    ICML 2020, algorithm 1.

    >>> simclr(32).objective.temperature
    0.5
    """
    return Method(
        name="simclr", views=views or simclr_views(size), head=head or HeadSpec(),
        objective=NTXent(temperature=temperature),
    )  # fmt: skip
