"""An untrained network whose BatchNorm layers have statistics of images.

A new BatchNorm layer has the running statistics (0, 1), which are nobody's: with them the features
of different images are nearly equal, whatever the weights. Figures of such a network say nothing
of what training has changed.
"""

from __future__ import annotations

import copy
import math

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from coview.core.eval_mode import eval_mode
from coview.core.images import ImageStore
from coview.core.memory import PartSize
from coview.core.rng import SETTLING_IMAGES, Stream, permutation
from coview.core.tensors import to_device
from coview.methods.batch_norm import PatchedBatchNorm, batch_norms, set_batch_norm
from coview.methods.learner import Learner
from coview.views import ViewPlan, ViewSpec, render_device, views_of

MAX_IMAGES, BATCH, SMALLEST = 1_024, 256, 4
"""SMALLEST: a smaller batch would leave images alone, which have no variance."""
SETTLED = f"BatchNorm has the statistics of at most {MAX_IMAGES:,} training images"
"""For a reader of figures of an untrained network."""


@torch.no_grad()
def settled(learner: Learner, store: ImageStore, view: ViewSpec, *, seed: int) -> Learner:
    """A copy of ``learner``, to be measured, whose encoder and head have settled statistics.

    Every BatchNorm layer that has seen no batch gets the mean over batches of the batches' mean and
    unbiased variance, in one pass: at most 1,024 images of ``store``, chosen by ``seed`` and image
    id, in ``view``, in equal batches of at most 256, or of what fits into memory. Layers with
    statistics of their own (loaded weights) and frozen ones stay, and other kinds of normalization
    have none. Whether training shares statistics between processes or within ghost batches does not
    matter here: nothing is exchanged. ``learner`` itself is not touched. ``store`` has at least 2
    images.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.encoders import resnet
    >>> from coview.methods import simclr
    >>> import numpy as np
    >>> store = store_from_arrays(np.arange(960, dtype=np.uint8).reshape(5, 8, 8, 3))
    >>> learner = Learner(simclr(8), resnet(18, width=0.125, stem="small"))
    >>> copy = settled(learner, store, learner.method.views.views[0], seed=0)
    >>> [float(batch_norms(each)[0].running_var[0]) == 1 for each in (learner, copy)]
    [True, False]
    """
    network = copy.deepcopy(learner)
    fresh = [norm for norm in batch_norms(network.encoder, network.head) if _is_fresh(norm)]
    if not fresh:
        return network
    set_batch_norm(network)  # one process's, over whole batches
    device = next(network.parameters()).device
    rows = permutation(seed, Stream.HEALTH, store.ids, draw_index=SETTLING_IMAGES)[:MAX_IMAGES]

    def settle(most: int) -> None:
        for norm in fresh:
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True  # the mean over all batches
        for batch in torch.from_numpy(rows).tensor_split(math.ceil(len(rows) / most)):
            plan = ViewPlan(views=(view,))
            (images,) = views_of(
                store, batch.numpy(), plan, seed=seed, epoch=0, device=render_device(device)
            )
            network.head(network.encoder(to_device(images, device)))

    with eval_mode(network):
        PartSize(BATCH, device=device, least=SMALLEST).fit(settle, len(rows))
    return network


def _is_fresh(norm: _BatchNorm) -> bool:
    """Whether the running statistics are the (0, 1) of a layer that nothing has gone through.

    Not by the layer's counter of batches, which weights of older libraries lack.
    """
    if isinstance(norm, PatchedBatchNorm) and norm.mode.frozen:
        return False
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return False
    return bool((mean == 0).all() and (variance == 1).all())
