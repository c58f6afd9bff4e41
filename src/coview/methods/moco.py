"""MoCo: identify the key of a query among the keys of a queue."""

from __future__ import annotations

from coview.core.errors import UnknownName
from coview.heads import HeadSpec
from coview.methods.memory import Queue
from coview.methods.method import BOTH_WAYS, ONE_WAY, Method
from coview.methods.pair_objectives import InfoNCE
from coview.methods.target import EMA
from coview.views import ViewPlan, preset

VERSIONS = (1, 2)


def moco(
    size: int,
    *,
    version: int = 2,
    symmetric: bool = False,
    temperature: float | None = None,
    momentum: float = 0.999,
    queue: int = 65_536,
    ghost_batch_size: int | None = 32,
    views: ViewPlan | None = None,
    head: HeadSpec | None = None,
) -> Method:
    """q = g(f(view 1)), k = g'(f'(view 2)) with f', g' the moving average of f, g:

        loss = -log [ exp(q . k / tau) / ( exp(q . k / tau) + sum over the queue exp(q . k_j / tau) ) ]

    ``size`` is the side of the views in pixels. ``version`` 1 has a linear head, tau 0.07 and MoCo
    v1's views; 2 has a head of two layers, tau 0.2 and blur. ``symmetric``: the mean of both
    directions, with one state of the queue. Keys of the query's own image are no negatives, unlike
    in the papers. About ``ghost_batch_size`` images share BatchNorm statistics, and keys are drawn
    into groups anew, as in the papers' shuffled 8 devices of 32 images: from the images of a
    process, or of all processes where each is one group. One process whose batch is one group
    cannot part keys from their queries, and the plan says so. None: all images of a view share
    statistics. ``views`` and ``head`` replace the paper's. Raises UnknownName.

    Sources: He et al., "Momentum contrast for unsupervised visual representation learning", CVPR
    2020, algorithm 1; Chen et al., "Improved baselines with momentum contrastive learning", 2020.

    >>> moco(32, queue=4096).memory
    Queue(length=4096)
    """  # noqa: E501
    if version not in VERSIONS:
        raise UnknownName("version of MoCo", str(version), [str(v) for v in VERSIONS])
    first = version == 1
    policy = "moco_v1" if first else "moco_v2" if size > 32 else "moco_small"
    return Method(
        name="moco",
        views=views or preset(policy, size),
        head=head or HeadSpec(layers=version, batch_norm="none", bias="all", init="torch"),
        objective=InfoNCE(
            temperature=(0.07 if first else 0.2) if temperature is None else temperature
        ),
        target=EMA(start=momentum, end=momentum),
        memory=Queue(length=queue),
        pairing=BOTH_WAYS if symmetric else ONE_WAY,
        batch_norm="ghost" if ghost_batch_size else "per view",
        ghost_batch_size=ghost_batch_size,
    )
