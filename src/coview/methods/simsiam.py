"""SimSiam: predict the other view's embedding with a stop-gradient; no negatives, no average."""

from __future__ import annotations

from coview.heads import HeadSpec
from coview.methods.method import Method
from coview.methods.pair_objectives import NegativeCosine
from coview.methods.target import StopGradient
from coview.views import ViewPlan, preset


def simsiam(
    size: int,
    *,
    views: ViewPlan | None = None,
    head: HeadSpec | None = None,
    predictor: HeadSpec | None = None,
) -> Method:
    """z = g(f(view)), p = q(z):

        loss = - 1/2 cos(p_1, stop(z_2)) - 1/2 cos(p_2, stop(z_1))

    ``size`` is the side of the views in pixels. The head has an output of 2,048 and three layers,
    two up to 32 pixels (appendix D), with BatchNorm after the last. The predictor has a bottleneck
    of a quarter. Views up to 32 pixels are those of MoCo's CIFAR-10 notebook; the paper's crops
    have a fifth of the image and more (policy "simsiam_small"). ``views``, ``head`` and
    ``predictor`` replace the defaults. Each view has its own BatchNorm statistics.

    Source: Chen and He, "Exploring simple Siamese representation learning", CVPR 2021, algorithm 1.

    >>> simsiam(32).predictor.hidden
    512
    """
    small = size <= 32
    head = head or HeadSpec(layers=2 if small else 3, output=2048, last_affine="none", init="torch")
    return Method(
        name="simsiam",
        views=views or preset("moco_small" if small else "moco_v2", size),
        head=head,
        predictor=predictor or HeadSpec(
            hidden=max(1, head.output // 4), output=head.output, batch_norm="hidden", bias="last",
            init="torch",
        ),
        objective=NegativeCosine(),
        target=StopGradient(),
        batch_norm="per view",
    )  # fmt: skip
