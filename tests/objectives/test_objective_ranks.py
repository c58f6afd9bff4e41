"""One process and many compute the same loss and the same gradient.

Each world is started once and runs every objective on every layout of images over its processes;
the tests compare with one process that has the whole batch, in float64.
"""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from every_objective import NAMES, at, labels, marks, queue
from slow_losses import random_views

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives import (
    cross_entropy,
    decoupled_nt_xent,
    distillation,
    info_nce,
    margin_triplet,
    nt_logistic,
    nt_xent,
    sup_con,
)

LAYOUTS = {
    2: {"equal": (3, 3), "unequal": (1, 5)},
    4: {"equal": (2, 2, 2, 2), "unequal": (3, 1, 0, 4)},
}
WIDTH = 5


def weights(images):
    w = torch.rand(images, images, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    w[w < 0.3] = 0
    w[0] = 0
    return w


# name -> function of views, the images of these views, and how many there are in all.
LOSSES = {
    "nt_xent": lambda v, local_slice, n, r: nt_xent(v, temperature=0.2, ranks=r),
    "nt_xent, low temperature": lambda v, local_slice, n, r: nt_xent(v, temperature=0.01, ranks=r),
    "nt_xent, 3 views": lambda v, local_slice, n, r: nt_xent(
        [*v, v[0] + 2 * v[1]], temperature=0.2, ranks=r
    ),
    "decoupled": lambda v, local_slice, n, r: decoupled_nt_xent(v, temperature=0.2, ranks=r),
    "nt_xent other views": lambda v, local_slice, n, r: nt_xent(
        v, temperature=0.2, negatives="other views", ranks=r
    ),
    "nt_xent not normalized": lambda v, local_slice, n, r: nt_xent(
        v, temperature=5.0, normalize=False, ranks=r
    ),
    "sup_con out": lambda v, local_slice, n, r: sup_con(
        v, labels(n)[local_slice], temperature=0.2, ranks=r
    ),
    "sup_con in": lambda v, local_slice, n, r: sup_con(
        v, labels(n)[local_slice], temperature=0.2, form="in", ranks=r
    ),
    "sup_con, one view": lambda v, local_slice, n, r: sup_con(
        v[:1], labels(n)[local_slice], temperature=0.2, ranks=r
    ),
    "sup_con marks": lambda v, local_slice, n, r: sup_con(
        v, marks(n)[local_slice], temperature=0.2, form="in", ranks=r
    ),
    "sup_con capped": lambda v, local_slice, n, r: sup_con(
        v, labels(n)[local_slice], temperature=0.2, positives_cap=2, ranks=r
    ),
    "sup_con weights out": lambda v, local_slice, n, r: sup_con(
        v, weights=weights(n)[local_slice], temperature=0.2, ranks=r
    ),
    "sup_con weights in": lambda v, local_slice, n, r: sup_con(
        v, weights=weights(n)[local_slice], temperature=0.2, form="in", ranks=r
    ),
    "info_nce": lambda v, local_slice, n, r: info_nce(*v, temperature=0.2, ranks=r),
    "info_nce ids": lambda v, local_slice, n, r: info_nce(
        *v, temperature=0.2, ids=(torch.arange(n) // 2)[local_slice], ranks=r
    ),
    "info_nce queue": lambda v, local_slice, n, r: info_nce(
        *v, negatives=queue(v[0]), temperature=0.2, ranks=r
    ),
    "nt_logistic": lambda v, local_slice, n, r: nt_logistic(v, temperature=0.2, ranks=r),
    "nt_logistic mined": lambda v, local_slice, n, r: nt_logistic(
        v, temperature=0.2, mining="semi-hard", ranks=r
    ),
    "margin_triplet": lambda v, local_slice, n, r: margin_triplet(v, margin=0.8, ranks=r),
    "margin_triplet mined": lambda v, local_slice, n, r: margin_triplet(
        v, margin=0.8, mining="semi-hard", ranks=r
    ),
    "negative_cosine": lambda v, local_slice, n, r: at(0.2)["negative_cosine"](v, ranks=r),
    "cross_entropy": lambda v, local_slice, n, r: cross_entropy(
        v[0] + v[1], labels(n)[local_slice], ranks=r
    ),
    "distillation": lambda v, local_slice, n, r: distillation(*v, temperature=0.5, ranks=r),
}
GATHERS_NOTHING = {"info_nce queue", "negative_cosine", "cross_entropy", "distillation"}


class Counted(Ranks):
    """Counts the gathers of embeddings."""

    gathers = 0

    def gather(self, rows, sizes=None):
        Counted.gathers += rows.dtype == torch.float64
        return super().gather(rows, sizes)


def run(loss, views, local_slice, images, ranks):
    """The loss of the images ``local_slice``, with the gradient of their rows in both views."""
    own = [view[local_slice].clone().requires_grad_() for view in views]
    value = loss(own, local_slice, images, ranks)
    value.backward()
    grads = [torch.zeros_like(x) if x.grad is None else x.grad for x in own]
    return value.detach(), torch.stack(grads)


def work(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet-{world}", rank=rank, world_size=world
    )
    found = {}
    for layout, sizes in LAYOUTS[world].items():
        local_slice, images = slice(sum(sizes[:rank]), sum(sizes[: rank + 1])), sum(sizes)
        for name, loss in LOSSES.items():
            Counted.gathers = 0
            views = random_views(2, images, WIDTH)
            value, grads = run(loss, views, local_slice, images, Counted(rank=rank, world=world))
            found[layout, name] = (value, grads, Counted.gathers)
    torch.save(found, f"{folder}/{world}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """world -> what each of its ranks found."""
    folder = tmp_path_factory.mktemp("worlds")
    found = {}
    for world in LAYOUTS:
        multiprocessing.spawn(work, args=(world, str(folder)), nprocs=world)
        found[world] = [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)]
    return found


CASES = [(world, layout, name) for world in LAYOUTS for layout in LAYOUTS[world] for name in LOSSES]


@pytest.mark.parametrize(("world", "layout", "name"), CASES)
def test_many_processes_compute_the_loss_and_gradient_of_one(worlds, world, layout, name):
    images = sum(LAYOUTS[world][layout])
    views = random_views(2, images, WIDTH)
    value, grads = run(LOSSES[name], views, slice(0, images), images, SINGLE_PROCESS)
    found = [rank[layout, name] for rank in worlds[world]]
    assert sum(v for v, _, _ in found).item() / world == pytest.approx(value.item(), abs=1e-10)
    everyones = torch.cat([g for _, g, _ in found], dim=1) / world
    assert torch.allclose(everyones, grads, rtol=1e-9, atol=1e-12)
    assert grads.norm() > 1e-3


@pytest.mark.parametrize(("world", "layout", "name"), CASES)
def test_embeddings_are_gathered_once(worlds, world, layout, name):
    expected = 0 if name in GATHERS_NOTHING else 1
    assert [rank[layout, name][2] for rank in worlds[world]] == [expected] * world


def test_every_objective_is_among_those_compared():
    families = {name.split()[0].strip(",") for name in NAMES}
    assert families <= {name.split()[0].strip(",") for name in LOSSES}
