"""Supervised contrastive learning: all views of all images of one label attract each other."""

from __future__ import annotations

from typing import Literal

from coview.heads import HeadSpec
from coview.methods.method import Method
from coview.methods.set_objectives import SupCon
from coview.views import ViewPlan, simclr_views


def supcon(
    size: int,
    *,
    temperature: float = 0.1,
    form: Literal["out", "in"] = "out",
    views: ViewPlan | None = None,
    head: HeadSpec | None = None,
) -> Method:
    """z = g(f(view)) for two views of each image; over all rows i with positives P(i), which are
    the other rows of the same label,

        loss = mean_i -1/#P(i) sum_{p in P(i)} log [ exp(z_i . z_p / tau)
                                                     / sum_{k != i} exp(z_i . z_k / tau) ]

    (form "out"; "in" takes the logarithm of the mean). ``size`` is the side of the views in
    pixels. The views are SimCLR's, as in the authors' CIFAR-10 experiments; ``views`` (one view is
    enough) and ``head`` replace the defaults.

    Source: Khosla et al., "Supervised contrastive learning", NeurIPS 2020, equations 2 and 3.

    >>> supcon(32).needs_labels
    True
    """
    return Method(
        name="supcon", views=views or simclr_views(size), head=head or HeadSpec(),
        objective=SupCon(temperature=temperature, form=form),
    )  # fmt: skip
