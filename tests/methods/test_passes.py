"""Micro-batches and activation checkpointing: the gradient of the whole batch in less memory."""

import copy
from dataclasses import replace

import pytest
import torch
from small import SIZE, Pixels, batch, methods, plan
from torch import nn
from torchvision.ops import StochasticDepth

from coview.core.errors import InvalidValue
from coview.encoders import EncoderSpec, resnet
from coview.heads import HeadSpec
from coview.methods import Learner, Passes, logo, simclr, simsiam
from coview.methods.batch_norm import batch_norms
from coview.methods.passes import forward_passes, group_passes
from coview.views import Crop, ViewPlan, ViewSpec

IMAGES = 11
CROPPED = ViewPlan(views=(ViewSpec(size=SIZE, crop=Crop()),) * 2)


def without_norm(method):
    """The method with heads that know nothing of the other images of a batch."""
    plain = {"batch_norm": "none", "bias": "all", "init": "torch"}
    changes = {"head": replace(method.head, **plain)}
    if method.predictor is not None:
        changes["predictor"] = replace(method.predictor, **plain)
    return replace(method, **changes)


def every_method():
    found = {name: without_norm(method) for name, method in methods().items()}
    for name in ("simclr", "moco", "byol", "simsiam"):
        base = replace(found[name], views=CROPPED)
        found[f"logo-{name}"] = logo(base, weight=0.3)
    found["logo-ratio"] = logo(replace(found["moco"], views=CROPPED), gradient_ratio=0.2)
    return found


def gradients(method, micro_batch, **options):
    found = Learner(
        method, Pixels(norm=False), total_steps=4, passes=Passes(micro_batch=micro_batch), **options
    ).double()
    views = batch(IMAGES, [v.size for v in method.views.views], dtype=torch.float64)
    terms = found.loss(views, 0)
    sum(terms.values()).backward()
    grads = {n: p.grad for n, p in found.named_parameters() if p.grad is not None}
    return {name: float(term.detach()) for name, term in terms.items()}, grads, found


@pytest.mark.parametrize("chunks", [1, 2, 3, 8])
@pytest.mark.parametrize("name", sorted(every_method()))
def test_micro_batches_give_the_gradient_of_the_whole_batch(name, chunks, monkeypatch):
    method = every_method()[name]
    whole, expected, before = gradients(method, None)
    monkeypatch.setattr(
        "coview.objectives.log_partition.CPU_TILE", 4
    )  # the whole batch was one tile
    terms, found, after = gradients(method, -(-IMAGES // chunks))
    assert terms == pytest.approx(whole, rel=1e-12)
    assert found.keys() == expected.keys()
    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-9, atol=1e-12)
    before.after_step(0)
    after.after_step(0)
    for ours, theirs in zip(after.state_dict().items(), before.state_dict().items(), strict=True):
        assert ours[0] == theirs[0]
        torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-12)


def test_micro_batches_with_batch_norm_are_the_gradient_of_that_grouping():
    method = methods()["simsiam"]
    found = Learner(method, Pixels(), passes=Passes(micro_batch=4)).double()
    views = batch(IMAGES, dtype=torch.float64)
    found.loss(views, 3)["NegativeCosine"].backward()

    plain = Learner(method, Pixels()).double()
    z, p = {}, {}
    for index in (0, 1):
        (passes,) = group_passes(
            views.views, [index], per_view=True, micro_batch=4, shuffle=False, step=3
        )
        assert [len(rows) for ((_, rows),) in passes] == [4, 4, 3]
        z[index], p[index] = torch.zeros(2, IMAGES, 8, dtype=torch.float64).unbind()
        for ((_, rows),) in passes:
            part = plain.head(plain.encoder(views.views[index][rows]))
            z[index] = z[index].index_copy(0, rows, part)
            p[index] = p[index].index_copy(0, rows, plain.predictor(part))
    loss = method.objective(p[0], z[1].detach(), views.ids, None) / 2
    loss = loss + method.objective(p[1], z[0].detach(), views.ids, None) / 2
    loss.backward()
    for ours, theirs in zip(found.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_micro_batches_put_the_views_of_an_image_into_different_parts():
    views = batch(64).views
    (first,) = group_passes(views, [0], per_view=True, micro_batch=8, shuffle=False, step=0)
    (second,) = group_passes(views, [1], per_view=True, micro_batch=8, shuffle=False, step=0)
    together = sum(
        len(set(a[0][1].tolist()) & set(b[0][1].tolist()))
        for a, b in zip(first, second, strict=True)
    )
    assert together < 24  # of 64 images; 8 are expected, and all of them without a permutation
    (other,) = group_passes(views, [1], per_view=True, micro_batch=8, shuffle=False, step=1)
    assert not torch.equal(second[0][0][1], other[0][0][1])


def test_micro_batches_move_statistics_once_to_the_mean_of_the_parts():
    norm = nn.BatchNorm1d(3)
    rows = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    rounds = group_passes([rows], [0], per_view=True, micro_batch=4, shuffle=False, step=0)
    forward_passes(lambda x: (norm(x),), [norm], [rows], rounds, recompute=False)
    parts = rows.split(4)
    torch.testing.assert_close(
        norm.running_mean, 0.1 * torch.stack([part.mean(0) for part in parts]).mean(0)
    )
    torch.testing.assert_close(
        norm.running_var, 0.9 + 0.1 * torch.stack([part.var(0) for part in parts]).mean(0)
    )
    assert norm.num_batches_tracked == 1


def test_micro_batches_replay_dropout():
    encoder = nn.Sequential(Pixels(norm=False), nn.Dropout(0.5))
    encoder.features = 10
    method = without_norm(methods()["simclr"])
    grads = []
    for _ in range(2):
        found = Learner(method, copy.deepcopy(encoder), passes=Passes(micro_batch=4)).double()
        torch.manual_seed(5)
        loss = found.loss(batch(dtype=torch.float64), 0)["NTXent"]
        loss.backward()
        grads.append(found.encoder[0].dense.weight.grad)
    assert torch.equal(*grads)
    # The loss is a function of what the masks let through: a small step along its gradient, under
    # the same masks, lowers it by the gradient's square. Other masks in backward would not.
    with torch.no_grad():
        for parameter in found.parameters():
            parameter -= 1e-6 * parameter.grad
    squares = sum(float(p.grad.square().sum()) for p in found.parameters())
    torch.manual_seed(5)
    lower = found.loss(batch(dtype=torch.float64), 0)["NTXent"]
    assert float((loss - lower).detach()) == pytest.approx(1e-6 * squares, rel=1e-3)


@pytest.mark.parametrize("depth", [10, 50])
def test_checkpointed_blocks_are_exact_with_batch_norm(depth):
    method = simclr(16, views=plan(size=16), head=HeadSpec(output=8))
    plain = Learner(method, resnet(depth, width=0.0625, stem="small"))
    again = Learner(
        method,
        resnet(depth, width=0.0625, stem="small"),
        passes=Passes(activation_checkpointing=True),
    )
    views = batch(8, (16, 16))
    for step in range(2):
        losses = []
        for found in (plain, again):
            loss = found.loss(views, step)["NTXent"]
            loss.backward()
            found.after_step(step)
            losses.append(loss.detach())
        assert torch.equal(*losses)
    for ours, theirs in zip(again.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    assert again.state_dict().keys() == plain.state_dict().keys()
    for ours, theirs in zip(again.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_checkpointed_blocks_survive_a_copy():
    method = simclr(16, views=plan(size=16), head=HeadSpec(output=8))
    found = Learner(
        method, resnet(10, width=0.0625, stem="small"), passes=Passes(activation_checkpointing=True)
    )
    twin = copy.deepcopy(found)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.zero_()
    loss = twin.loss(batch(8, (16, 16)), 0)["NTXent"]
    loss.backward()
    assert all(p.grad is not None for p in twin.parameters())
    assert all(p.grad is None for p in found.parameters())


def test_checkpointing_of_an_unknown_encoder_is_refused():
    with pytest.raises(InvalidValue, match="`micro_batch`"):
        Learner(methods()["simclr"], Pixels(), passes=Passes(activation_checkpointing=True))


def test_micro_batch_of_one_is_refused():
    with pytest.raises(InvalidValue, match="at least 2"):
        Passes(micro_batch=1)


def test_backward_of_a_skipped_step_leaves_the_statistics():
    found = Learner(methods()["simclr"], Pixels(), passes=Passes(micro_batch=3))
    before = [buffer.clone() for norm in batch_norms(found) for buffer in norm.buffers()]
    found.loss(batch(), 0)["NTXent"].backward()
    after = [buffer for norm in batch_norms(found) for buffer in norm.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_frozen_batch_norm_uses_the_running_statistics_and_keeps_them():
    method = replace(methods()["simclr"], batch_norm="frozen")
    found = Learner(method, Pixels()).train()
    before = {name: value.clone() for name, value in found.state_dict().items()}
    views = batch()
    loss = found.loss(views, 0)["NTXent"]
    found.after_step(0)
    z = [found.embed(view)[1] for view in views.views]
    torch.testing.assert_close(loss, method.objective(z, None))
    assert all(torch.equal(before[n], v) for n, v in found.state_dict().items())


def test_ghost_batches_share_statistics_within_themselves_alone():
    method = replace(methods()["simclr"], batch_norm="ghost", ghost_batch_size=3)
    found = Learner(method, Pixels())
    views = batch(6)
    z = found._forward_views(found._embed_query, batch_norms(found), views, [0, 1], 0)
    plain = Learner(methods()["simclr"], Pixels())
    plain.load_state_dict(found.state_dict())
    first = nn.Sequential(plain.encoder, plain.head)(views.views[0][:3])
    torch.testing.assert_close(z[0][0][:3], first)
    whole = nn.Sequential(plain.encoder, plain.head)(views.views[0])
    assert not torch.allclose(z[0][0], whole)


def test_ghost_batches_of_keys_are_other_images_than_those_of_queries():
    (passes,) = group_passes(
        batch(64).views, [1], per_view=True, micro_batch=None, shuffle=True, step=0
    )
    ((_, rows),) = passes[0]
    assert sorted(rows.tolist()) == list(range(64))
    assert int((rows // 8 == torch.arange(64) // 8).sum()) < 24  # 8 are expected by chance


def test_batch_that_does_not_fit_first_checkpoints_activations():
    method = simclr(16, views=plan(size=16), head=HeadSpec(output=8))
    found = Learner(method, resnet(10, width=0.0625, stem="small"))
    plain = copy.deepcopy(found)
    assert "same gradient" in found.reduce_memory(8)
    assert found.passes == Passes(activation_checkpointing=True)
    losses = [each.loss(batch(8, (16, 16)), 0)["NTXent"] for each in (found, plain)]
    for loss in losses:
        loss.backward()
    assert torch.equal(*losses)
    for ours, theirs in zip(found.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    notes = [found.reduce_memory(8) for _ in range(3)]
    assert ["BatchNorm sees" in note for note in notes] == [True, True, False]
    assert notes[2] == ""
    assert found.passes == Passes(activation_checkpointing=True, micro_batch=2)


def in_parts(method, norm="batch"):
    spec = EncoderSpec(depth=10, width=0.25, stem="small", norm=norm)
    return Learner(method, spec.build())


def test_head_and_predictor_with_batch_norm_are_unlike_in_parts():
    views, plain = plan(), HeadSpec(output=8, batch_norm="none")
    assert in_parts(simclr(SIZE, views=views), "group").unlike_in_parts(8, 4)
    assert not in_parts(simclr(SIZE, views=views, head=plain), "group").unlike_in_parts(8, 4)
    assert in_parts(simclr(SIZE, views=views, head=plain)).unlike_in_parts(8, 4)
    predicts = replace(simsiam(SIZE, views=views), head=plain)
    assert in_parts(predicts, "group").unlike_in_parts(8, 4)
    assert not in_parts(replace(predicts, predictor=plain), "group").unlike_in_parts(8, 4)
    frozen = replace(simclr(SIZE, views=views), batch_norm="frozen")
    assert not in_parts(frozen).unlike_in_parts(8, 4)


@pytest.mark.parametrize(
    ("layer", "exact"),
    [
        (nn.Dropout(0.1), False), (nn.Dropout(0.0), True), (StochasticDepth(0.1, "row"), False),
        (StochasticDepth(0.0, "row"), True), (nn.MultiheadAttention(8, 2, dropout=0.1), False),
        (nn.MultiheadAttention(8, 2), True),
    ],
)  # fmt: skip
def test_layers_that_drop_at_random_are_unlike_in_parts(layer, exact):
    plain = simclr(SIZE, views=plan(), head=HeadSpec(output=8, batch_norm="none"))
    found = in_parts(plain, "group")
    found.encoder.add_module("last", layer)
    assert (found.unlike_in_parts(8, 4) == "") == exact
    assert not found.unlike_in_parts(8, None)
    found.set_passes(Passes(activation_checkpointing=True))
    words = "but dropout and stochastic depth draw other masks."
    assert found.reduce_memory(8).endswith("exactly." if exact else words)


def test_exact_run_takes_no_micro_batch_that_batch_norm_sees():
    found = in_parts(simclr(SIZE, views=plan()))
    assert "same gradient" in found.reduce_memory(8, exact=True)
    assert found.reduce_memory(8, exact=True) == ""
    assert found.passes == Passes(activation_checkpointing=True)


def test_exact_run_takes_the_largest_exact_micro_batch():
    ghost = replace(simclr(SIZE, views=plan()), batch_norm="ghost", ghost_batch_size=4)
    found = in_parts(ghost)
    notes = [found.reduce_memory(24, exact=True) for _ in range(4)]
    assert [note.endswith("loss, exactly.") for note in notes] == [False, True, True, False]
    assert found.passes.micro_batch == 4
    assert notes[3] == ""
    found.set_passes(replace(found.passes, micro_batch=10))  # asked for, and seen by BatchNorm
    assert found.reduce_memory(24, exact=True) == ""


@pytest.mark.parametrize(("images", "part"), [(5, 2), (7, 2), (3, 2), (8, 3)])
def test_no_part_is_a_single_image(images, part):
    (passes,) = group_passes(
        batch(images).views, [1], per_view=True, micro_batch=part, shuffle=False, step=0
    )
    sizes = [images if rows is None else len(rows) for ((_, rows),) in passes]
    assert sum(sizes) == images
    assert min(sizes) >= 2


@pytest.mark.parametrize("part", [2, 3])
def test_no_part_of_any_rank_is_a_single_image_and_all_make_as_many_passes(part):
    made = [
        group_passes(
            batch(images).views,
            [1],
            per_view=True,
            micro_batch=part,
            shuffle=True,
            step=0,
            rank_sizes=(6, 5),
        )
        for images in (6, 5)
    ]
    sizes = [[len(rows) for ((_, rows),) in passes] for (passes,) in made]
    assert sizes == [[3, 3], [3, 2]]
