"""Small networks and batches for tests of methods."""

from dataclasses import replace

import torch
from torch import nn

from coview.core.batches import Batch
from coview.heads import HeadSpec
from coview.methods import byol, moco, simclr, simclr_v2, simsiam, supcon, supervised
from coview.views import ViewPlan, eval_view

HEAD = HeadSpec(hidden=12, output=8)
PREDICTOR = HeadSpec(hidden=6, output=8, batch_norm="hidden", bias="last", init="torch")
SIZE = 6


class Pixels(nn.Module):
    """A small encoder of images of any size, with or without BatchNorm: features of width 10."""

    features = 10

    def __init__(self, norm=True, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 10, 3, padding=1)
            self.norm = nn.BatchNorm2d(10) if norm else nn.Identity()
            self.dense = nn.Linear(10, 10)

    def forward(self, images):
        return self.dense(self.norm(self.conv(images)).relu().mean((2, 3)))


def plan(views=2, size=SIZE):
    return ViewPlan(views=(eval_view(size),) * views)


def methods():
    """One value of every kind, small."""
    views = plan()
    plain = HeadSpec(hidden=12, output=8, batch_norm="none", bias="all", init="torch")
    found = {
        "simclr": simclr(SIZE, views=views, head=HEAD),
        "supcon": supcon(SIZE, views=views, head=HEAD),
        "supervised": supervised(SIZE, views=views, classes=3),
        "moco": moco(SIZE, views=views, head=plain, queue=16, ghost_batch_size=None),
        "moco-symmetric": moco(
            SIZE, views=views, head=plain, queue=16, ghost_batch_size=None, symmetric=True
        ),
        "byol": byol(SIZE, views=views, head=HEAD, predictor=PREDICTOR),
        "simsiam": simsiam(SIZE, views=views, head=HEAD, predictor=PREDICTOR),
        "simclr_v2": simclr_v2(SIZE, views=views, head=HEAD, memory=16),
    }
    learned = {f"{name}-tau": learning_temperature(found[name]) for name in ("simclr", "moco")}
    return found | learned


def learning_temperature(method):
    return replace(method, objective=replace(method.objective, learn_temperature=True))


def batch(images=6, sizes=(SIZE, SIZE), labels=True, seed=0, dtype=torch.float32, step=0):
    generator = torch.Generator().manual_seed(seed)
    views = tuple(
        torch.rand(images, 3, size, size, generator=generator, dtype=torch.float64).to(dtype)
        for size in sizes
    )
    return Batch(
        step=step, epoch=0, views=views, ids=torch.arange(images) + 100,
        labels=torch.arange(images) % 3 if labels else None,
    )  # fmt: skip
