"""Detectors that train in a second."""

from dataclasses import replace

import numpy as np

from coview.core.batches import Batch
from coview.core.ranks import SINGLE_PROCESS
from coview.data.annotated import AnnotatedSpec
from coview.dense import Detector, Segmenter
from coview.dense.inputs import render_maps, render_objects
from coview.dense.learner import dense_learner
from coview.encoders import resnet
from coview.views import ViewPlan, ViewSpec

SETTINGS = (
    "method.channels=16", "method.hidden=32", "method.anchors=12,24,48,96",
    "method.proposals=100,50", "method.test_proposals=100,50", "method.sampled=32,16",
    "schedule.warmup_epochs=0.5",
)  # fmt: skip
SMALL = Detector(
    name="small", views=ViewPlan(views=(ViewSpec(size=48, flip=0.5),)), classes=2, channels=16, hidden=32,
    anchors=(12, 24, 48, 96), proposals=(100, 50), test_proposals=(100, 50), sampled=(32, 16),
)  # fmt: skip
FORMS = {
    "fpn": SMALL,
    "fpn masks": replace(SMALL, masks=True),
    "fpn norms": replace(SMALL, masks=True, norm_in_heads=True, box_head="4conv1fc"),
    "c4": replace(SMALL, form="c4"),
    "c4 masks": replace(SMALL, form="c4", masks=True, extra_norm=True),
    "frozen": replace(SMALL, batch_norm="frozen"),
}
PIXELS = Segmenter(name="pixels", views=ViewPlan(views=(ViewSpec(size=48, flip=0.5),)), classes=3,
                   channels=16, dilation=2, scale=(0.75, 1.5))  # fmt: skip


def encoder(seed=0, depth=10):
    return resnet(depth, width=0.125, stem="medium", seed=seed)


def learner(method, ranks=SINGLE_PROCESS, **settings):
    return dense_learner(method, encoder(), seed=0, ranks=ranks, **settings)


def store(folder, **changes):
    return AnnotatedSpec.of(folder, size=48, **changes).open()


def batch(store, method, rows=(0, 1, 2, 3), step=0, epoch=0):
    rows = np.array(rows)
    render = render_objects if isinstance(method, Detector) else render_maps
    import torch

    return Batch(step=step, epoch=epoch, views=render(store, rows, method, seed=0, epoch=epoch),
                 ids=torch.from_numpy(store.ids[rows]))  # fmt: skip
