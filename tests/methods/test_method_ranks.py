"""Several processes compute what one would: loss, gradient and state, for every method, before any
optimizer, which would hide a wrong scale."""

from dataclasses import replace

import pytest
import torch
from small import SIZE, Pixels, batch, methods

from coview.core.batches import Batch
from coview.core.ranks import SINGLE_PROCESS
from coview.methods import Learner, Passes, logo, multi_crop
from coview.methods.batch_norm import batch_norms
from coview.training.loader import shares
from coview.training.step import average_gradients
from coview.views import Crop, ViewPlan, ViewSpec
from processes import together

IMAGES = 17  # 5, 4, 4 and 4 on four ranks, in two parts
CROPPED = ViewPlan(views=(ViewSpec(size=SIZE, crop=Crop()),) * 2)
CLOSE = {"rtol": 1e-8, "atol": 1e-11}
TILE = 4  # rows, of 34 or more in a batch


def everything():
    found = dict(methods())
    for name in ("simclr", "moco", "byol", "simsiam"):
        found[f"logo-{name}"] = logo(replace(found[name], views=CROPPED), weight=0.3)
    found["logo-ratio"] = logo(replace(found["simsiam"], views=CROPPED), gradient_ratio=0.2)
    found["multi_crop-supcon"] = multi_crop(replace(found["supcon"], views=CROPPED))
    found["frozen"] = replace(found["simclr"], batch_norm="frozen")
    found["per view"] = replace(found["simclr"], batch_norm="per view")
    return found


def part_of(whole, ranks):
    """What this rank has of a batch."""
    sizes = shares(len(whole), ranks.world)
    mine = slice(sum(sizes[: ranks.rank]), sum(sizes[: ranks.rank + 1]))
    return Batch(
        step=whole.step, epoch=0, views=tuple(view[mine] for view in whole.views),
        ids=whole.ids[mine], labels=whole.labels[mine], sizes=sizes,
    )  # fmt: skip


def run(method, ranks, *, norm=True, micro_batch=None, steps=2):
    """Terms of every step, and the learner after so many steps of plain gradient descent."""
    found = Learner(
        method, Pixels(norm=norm), total_steps=8, passes=Passes(micro_batch=micro_batch),
        ranks=ranks,
    ).double()  # fmt: skip
    terms = []
    for step in range(steps):
        whole = batch(
            IMAGES, [v.size for v in method.views.views], seed=step, dtype=torch.float64, step=step
        )
        mine = whole if ranks.is_single else part_of(whole, ranks)
        loss = found.loss(mine, step)
        sum(loss.values()).backward()
        moved = [p for p in found.parameters() if p.requires_grad]
        average_gradients(moved, ranks)
        with torch.no_grad():
            for parameter in moved:
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
        found.after_step(step)
        terms.append({name: ranks.mean(term.detach()) for name, term in loss.items()})
    return terms, found


def ghost_methods():
    """Methods whose BatchNorm takes its statistics within each process."""
    groups = {"batch_norm": "ghost", "ghost_batch_size": 2}
    found = {name: replace(methods()[name], **groups) for name in ("moco", "moco-symmetric")}
    found["simclr"] = replace(methods()["simclr"], **groups)
    found["logo-moco"] = logo(replace(found["moco-symmetric"], views=CROPPED), weight=0.3)
    return found


def check_keys_are_normalized_with_images_of_other_ranks(ranks):
    """Not with their queries alone, by which a network could tell the pair."""
    size = IMAGES // ranks.world
    method = replace(methods()["moco"], batch_norm="ghost", ghost_batch_size=size)
    learner = Learner(method, Pixels(), ranks=ranks).double()
    keys = []
    for changed in (False, True):
        whole = batch(IMAGES, dtype=torch.float64)
        if changed and ranks.rank == 1:  # rank 0 has the same images as before
            whole = replace(whole, views=tuple(view.square() for view in whole.views))
        mine = part_of(whole, ranks)
        norms = batch_norms(learner.momentum_encoder)
        outputs = learner._forward_views(learner.momentum_encoder, norms, mine, [1], 0)
        keys.append(outputs[1][0].detach())
    if ranks.rank == 0:
        assert not torch.allclose(*keys)


def compare(name, method, ranks, **options):
    """The ranks compute in small tiles what one process computes in a single one."""
    expected, one = run(method, SINGLE_PROCESS, **{**options, "micro_batch": None})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coview.objectives.log_partition.CPU_TILE", TILE)
        terms, shared = run(method, ranks, **options)
    for ours, theirs in zip(terms, expected, strict=True):
        for term in theirs:
            torch.testing.assert_close(ours[term], theirs[term], **CLOSE, msg=f"{name}: {term}")
    for key, value in one.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[key], value, **CLOSE, msg=f"{name}: {key}")


def check_every_method_with_batch_norm(ranks):
    for name, method in everything().items():
        compare(name, method, ranks)


def check_every_method_in_micro_batches_without_batch_norm(ranks):
    plain = {"batch_norm": "none", "bias": "all", "init": "torch"}
    for name, method in everything().items():
        if name == "frozen":
            continue
        predictor = method.predictor and replace(method.predictor, **plain)
        bare = replace(method, head=replace(method.head, **plain), predictor=predictor)
        compare(name, bare, ranks, norm=False, micro_batch=2)


def end_together(name, method, ranks, **options):
    """All ranks hold the same bits after their steps."""
    _, found = run(method, ranks, **options)
    for key, value in found.state_dict().items():
        everyones = ranks.gather(value[None])
        assert torch.equal(everyones, value.expand_as(everyones)), f"{name}: {key}"


def check_groups_of_batch_norm_leave_all_ranks_the_same(ranks):
    """Running statistics, those of the momentum encoder too, queue, average and critic."""
    for name, method in ghost_methods().items():
        end_together(name, method, ranks)
        end_together(f"{name} in micro-batches", method, ranks, micro_batch=3)


def check_processes_that_are_one_group_each_compute_what_one_process_with_these_groups_does(ranks):
    """Images of views 1 and up are drawn into groups over all ranks (MoCo, section 3.3)."""
    one_each = {"batch_norm": "ghost", "ghost_batch_size": IMAGES // ranks.world}
    found = ghost_methods() | {"byol": methods()["byol"]}
    for name, method in found.items():
        method = replace(method, **one_each)
        compare(name, method, ranks)
        compare(f"{name}, recomputed", method, ranks, micro_batch=IMAGES)


def check_micro_batches_of_synchronized_batch_norm_end_together(ranks):
    """Every rank makes as many passes, whatever it holds, and all hold the same afterwards."""
    end_together("simclr", methods()["simclr"], ranks, micro_batch=3)


CHECKS = [check for name, check in sorted(globals().items()) if name.startswith("check_")]


@pytest.fixture(scope="module", params=[2, 4])
def faults(request):
    return together(request.param, CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_processes(check, faults):
    assert "\n".join(faults[check.__name__]).strip() == ""


def test_parts_of_a_batch_are_the_batch():
    whole = batch(IMAGES)
    parts = [part_of(whole, replace(SINGLE_PROCESS, rank=rank, world=4)) for rank in range(4)]
    assert torch.equal(torch.cat([part.ids for part in parts]), whole.ids)
