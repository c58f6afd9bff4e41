"""SimCLRv2: SimCLR with a deeper head and a memory of keys of the momentum encoder."""

from __future__ import annotations

from dataclasses import replace

from coview.heads import HeadSpec
from coview.methods.memory import Queue
from coview.methods.method import Method
from coview.methods.pair_objectives import InfoNCE
from coview.methods.simclr import simclr
from coview.methods.target import EMA
from coview.views import ViewPlan


def simclr_v2(
    size: int,
    *,
    temperature: float = 0.1,
    memory: int | None = 65_536,
    momentum: float = 0.999,
    views: ViewPlan | None = None,
    head: HeadSpec | None = None,
) -> Method:
    """Queries z = g(f(view)), keys k = g'(f'(view)), f', g' the moving average of f, g; for view v
    of image i, with v' the other view, j != i the other images of the batch and u both views,

        loss = -log [ exp(z_iv . k_iv' / tau) / ( exp(z_iv . k_iv' / tau)
                      + sum_ju exp(z_iv . k_ju / tau) + sum over the memory exp(z_iv . k / tau) ) ]

    averaged over all i and v. The memory holds the last ``memory`` keys of both views. None: no
    memory and no moving average, which is SimCLR with a head of three layers. ``size`` is the side
    of the views in pixels; ``views`` and ``head`` replace the paper's. The authors released no code
    for the memory; that keys of the batch come from the moving average is our choice.

    Source: Chen et al., "Big self-supervised models are strong semi-supervised learners", NeurIPS
    2020, section 2.

    >>> simclr_v2(32).head.layers
    3
    """
    plain = simclr(size, temperature=temperature, views=views, head=head or HeadSpec(layers=3))
    if memory is None:
        return replace(plain, name="simclr_v2")
    return replace(
        plain, name="simclr_v2", objective=InfoNCE(temperature=temperature, batch_negatives=True),
        target=EMA(start=momentum, end=momentum), memory=Queue(length=memory),
    )  # fmt: skip
