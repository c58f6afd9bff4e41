"""The contract of methods: what a learner of any method value does, and never does."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from coview.core.batches import Batch
from coview.core.errors import InvalidValue
from coview.core.values import decode, encode, fingerprint
from coview.heads import HeadSpec
from coview.methods import Learner, Method, Passes
from coview.methods.batch_norm import batch_norms
from coview.recipes import known_values
from coview.testing.contract import run_checks

STEPS = 100


def check_method(method: Method) -> None:
    """Every check of METHOD_CHECKS; AssertionError names those that fail."""
    run_checks(METHOD_CHECKS, method)


class Colors(nn.Module):
    """A small encoder of images of any size; ``norm`` False: no image knows of the others."""

    features = 12

    def __init__(self, *, norm: bool = True, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 12, 3, padding=1)
            self.norm = nn.BatchNorm2d(12) if norm else nn.Identity()
            self.dense = nn.Linear(12, 12)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.conv(images)).relu()
        found: Tensor = self.dense(x.mean((2, 3)))
        return found


def learner(method: Method, *, norm: bool = True, passes: Passes | None = None) -> Learner:
    """A learner of ``method`` on a small encoder, in float32."""
    encoder: nn.Module = Colors(norm=norm)
    return Learner(
        method, encoder, total_steps=STEPS, passes=passes or Passes()  # type: ignore[arg-type]
    )  # fmt: skip


def batch(method: Method, images: int = 8, *, seed: int = 0, step: int = 0) -> Batch:
    """Images of different colors, their views with a little noise; two labels."""
    generator = torch.Generator().manual_seed(seed)
    colors = torch.rand(images, 3, 1, 1, generator=generator)
    views = tuple(
        (colors + 0.1 * torch.randn(images, 3, spec.size, spec.size, generator=generator))
        for spec in small(method).views.views
    )
    ids = torch.arange(images) + 1000 * (seed + 1)
    return Batch(step=step, epoch=0, views=views, ids=ids, labels=torch.arange(images) % 2)


def small(method: Method) -> Method:
    """The method on views of at most 8 pixels and with a short queue: the same, sooner."""
    views = tuple(replace(view, size=min(view.size, 8), blur=None) for view in method.views.views)
    queue = method.memory and replace(method.memory, length=min(method.memory.length, 32))
    return replace(method, views=replace(method.views, views=views), memory=queue)


def total(found: Learner, views: Batch) -> Tensor:
    """The sum of the terms of a loss."""
    return torch.stack(list(found.loss(views, views.step).values())).sum()


def bits(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the whole state."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    """The names of what is another number now."""
    return {n for n, v in module.state_dict().items() if not torch.equal(before[n], v)}


def trained(found: Learner, steps: int, rate: float = 0.03) -> list[float]:
    """The losses of so many steps of SGD on one batch."""
    optimizer = torch.optim.SGD(
        [p for p in found.parameters() if p.requires_grad], lr=rate, momentum=0.9
    )
    losses = []
    for step in range(steps):
        views = batch(found.method, step=step)
        loss = total(found, views)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.after_step(step)
        losses.append(float(loss.detach()))
    return losses


def is_a_plain_value(method: Method) -> None:
    """Hashable, equal to a copy, and its JSON gives it back."""
    assert hash(method) == hash(copy.deepcopy(method))
    again = decode(encode(method), known_values())
    assert again == method
    assert fingerprint(again) == fingerprint(method)


def prints_what_makes_it_again(method: Method) -> None:
    """``repr`` evaluates to an equal value."""
    names = {kind.__name__: kind for kind in known_values()}
    assert eval(repr(method), {}, names) == method  # noqa: S307


def begins_alike_from_one_seed(method: Method) -> None:
    """Two learners of one seed have the same first values."""
    assert not changed(bits(learner(small(method))), learner(small(method)))


def is_finite_at_the_start(method: Method) -> None:
    """For batches of 2, 3 and 8 images."""
    for images in (2, 3, 8):
        value = total(learner(small(method)), batch(method, images))
        assert torch.isfinite(value), f"{value.detach()} for {images} images"


def reaches_every_trained_parameter(method: Method) -> None:
    """No parameter that an optimizer would move is without a gradient."""
    found = learner(small(method))
    total(found, batch(method)).backward()  # type: ignore[no-untyped-call]
    without = [n for n, p in found.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, f"no gradient: {without}"


def leaves_targets_and_critics_without_gradient(method: Method) -> None:
    """What moves by itself is not differentiated."""
    found = learner(small(method))
    total(found, batch(method)).backward()  # type: ignore[no-untyped-call]
    wrong = [n for n, p in found.named_parameters() if not p.requires_grad and p.grad is not None]
    assert not wrong, f"a gradient: {wrong}"


def loss_moves_nothing(method: Method) -> None:
    """Parameters, statistics, queue and critic are the same bits after loss and backward."""
    found = learner(small(method))
    before = bits(found)
    total(found, batch(method)).backward()  # type: ignore[no-untyped-call]
    assert not changed(before, found)


def loss_that_fails_moves_nothing(method: Method) -> None:
    """The same where it raises."""
    found = learner(small(method))
    before = bits(found)
    views = batch(method)
    broken = replace(views, views=(*views.views[:-1], views.views[-1][:, :2]))
    try:
        found.loss(broken, 0)
    except Exception:
        assert not changed(before, found)
    else:
        raise AssertionError("images of two channels were accepted")


def after_step_moves_no_trained_parameter(method: Method) -> None:
    """Only the optimizer does."""
    found = learner(small(method))
    before = bits(found)
    total(found, batch(method))
    found.after_step(0)
    own = {n for n, p in found.named_parameters() if p.requires_grad}
    assert not changed(before, found) & own


def after_step_moves_each_statistic_once(method: Method) -> None:
    """A second call without a loss in between changes nothing but an average."""
    found = learner(small(method))
    total(found, batch(method))
    found.after_step(0)
    before = bits(found)
    found.after_step(1)
    moved = {name for name in changed(before, found) if not name.startswith("momentum_encoder.")}
    assert not moved, f"moved again: {moved}"


def is_the_same_twice(method: Method) -> None:
    """One batch gives one loss, bit for bit."""
    found = learner(small(method))
    assert torch.equal(total(found, batch(method)), total(found, batch(method)))


def does_not_see_the_order_of_images(method: Method) -> None:
    """Similarity terms are those of any order; a critic's negatives are neighbors, so not its."""
    if method.batch_norm == "groups":
        return
    found = learner(small(method))
    views = batch(method)
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(1))
    assert views.labels is not None
    shuffled = replace(
        views, views=tuple(view[order] for view in views.views), ids=views.ids[order],
        labels=views.labels[order],
    )  # fmt: skip
    first, second = found.loss(views, 0), found.loss(shuffled, 0)
    name = type(method.objective).__name__
    torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)


def goes_on_from_its_state(method: Method) -> None:
    """A new learner with the state of an old one computes what the old one would."""
    found = learner(small(method))
    trained(found, 3)
    other = learner(replace(small(method)))
    other.load_state_dict(found.state_dict())
    assert torch.equal(total(found, batch(method, step=3)), total(other, batch(method, step=3)))


def survives_a_copy(method: Method) -> None:
    """A deep copy computes the same and shares nothing."""
    found = learner(small(method))
    twin = copy.deepcopy(found)
    assert torch.equal(total(found, batch(method)), total(twin, batch(method)))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.zero_()
    assert all(bool(p.any()) for p in twin.encoder.parameters() if p.ndim > 1)


def micro_batches_give_the_whole_gradient(method: Method) -> None:
    """Without BatchNorm: in parts of 3 of 8 images, the last smaller."""
    plain = without_norm(small(method))
    found = []
    for part in (None, 3):
        one = learner(plain, norm=False, passes=Passes(micro_batch=part)).double()
        views = batch(method)
        views = replace(views, views=tuple(view.double() for view in views.views))
        total(one, views).backward()  # type: ignore[no-untyped-call]
        found.append({n: p.grad for n, p in one.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-8, atol=1e-11, msg=name)


def without_norm(method: Method) -> Method:
    """The method with heads of dense layers alone, and nothing that groups images."""

    def plain(head: HeadSpec) -> HeadSpec:
        return replace(head, batch_norm="none", bias="all", init="torch")

    predictor = method.predictor and plain(method.predictor)
    return replace(
        method,
        head=plain(method.head),
        predictor=predictor,
        batch_norm="per view",
        ghost_batch_size=None,
    )


def micro_batches_count_statistics_once(method: Method) -> None:
    """BatchNorm has counted as many batches as without parts."""
    counts = []
    for part in (None, 4):
        found = learner(small(method), passes=Passes(micro_batch=part))
        total(found, batch(method))
        found.after_step(0)
        counts.append([int(norm.num_batches_tracked or 0) for norm in batch_norms(found)])
    assert counts[0] == counts[1]


def bf16_is_near(method: Method) -> None:
    """Under autocast to bf16 the loss is that of float32 within 5 %."""
    found = learner(small(method))
    exact = float(total(found, batch(method)).detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = float(total(found, batch(method)).detach())
    assert math.isclose(exact, rounded, rel_tol=0.05, abs_tol=0.05), f"{rounded} for {exact}"


def a_pixel_that_is_no_number_shows(method: Method) -> None:
    """The loss is not finite then, so that the step is refused."""
    views = batch(method)
    broken = views.views[0].clone()
    broken[0, 0, 0, 0] = math.nan
    value = total(learner(small(method)), replace(views, views=(broken, *views.views[1:])))
    assert not torch.isfinite(value)


def one_label_for_all_is_finite(method: Method) -> None:
    """Loss and gradient."""
    views = replace(batch(method), labels=torch.zeros(8, dtype=torch.int64))
    _finite_step(method, views)


def no_label_known_is_finite(method: Method) -> None:
    """Loss and gradient, with -1 everywhere."""
    _finite_step(method, replace(batch(method), labels=torch.full((8,), -1)))


def one_image_many_times_is_finite(method: Method) -> None:
    """The same id and the same pixels in every place."""
    views = batch(method)
    same = tuple(view[:1].expand_as(view).contiguous() for view in views.views)
    _finite_step(method, replace(views, views=same, ids=views.ids[:1].repeat(8)))


def black_images_are_finite(method: Method) -> None:
    """All pixels zero."""
    views = batch(method)
    _finite_step(method, replace(views, views=tuple(map(torch.zeros_like, views.views))))


def large_and_small_embeddings_are_finite(method: Method) -> None:
    """Embeddings scaled by a million and by a millionth."""
    for scale in (1e6, 1e-6):
        found = learner(small(method))
        last = [p for p in found.head.parameters() if p.ndim > 1][-1]
        with torch.no_grad():
            last.mul_(scale)
        value = total(found, batch(method))
        value.backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(value), f"loss at scale {scale:g}"
        assert _gradients_are_finite(found), f"gradient at scale {scale:g}"


def _finite_step(method: Method, views: Batch) -> None:
    found = learner(small(method))
    value = total(found, views)
    value.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(value), f"the loss is {value.detach()}"
    assert _gradients_are_finite(found)


def _gradients_are_finite(found: Learner) -> bool:
    gradients = [p.grad for p in found.parameters() if p.grad is not None]
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def labels_are_asked_for_where_needed(method: Method) -> None:
    """Without labels a supervised method says so, any other learns."""
    views = replace(batch(method), labels=None)
    try:
        value = total(learner(small(method)), views)
    except InvalidValue:
        assert method.needs_labels
    else:
        assert not method.needs_labels
        assert torch.isfinite(value)


def another_number_of_views_is_refused(method: Method) -> None:
    """With one sentence."""
    views = batch(method)
    try:
        learner(small(method)).loss(replace(views, views=views.views[:-1]), 0)
    except InvalidValue:
        return
    raise AssertionError("a batch that lacks a view was accepted")


def learns_on_a_toy(method: Method) -> None:
    """Eighty steps on eight colors lower the loss, once a memory is full of their keys: keys of
    noise, which it begins with, are easy to tell."""
    found = learner(small(method))
    filled = 0 if method.memory is None else 10
    losses = trained(found, 80)
    early, late = losses[filled : filled + 5], losses[-5:]
    assert sum(late) < sum(early), f"{early[0]:.3f} -> {late[-1]:.3f}"


def does_not_collapse_on_a_toy(method: Method) -> None:
    """After sixty steps eight colors still have different embeddings."""
    found = learner(small(method))
    trained(found, 60)
    z = normalize(found.embed(batch(method).views[0])[1], dim=1)
    spread = float((1 - z.mean(0).square().sum()).clamp_min(0).sqrt())
    assert spread > 0.05, f"spread {spread:.3f}"


def evaluation_moves_nothing(method: Method) -> None:
    """embed leaves state and modes, and gives no gradient."""
    found = learner(small(method)).train()
    before, modes = bits(found), [part.training for part in found.modules()]
    h, z = found.embed(batch(method).views[0])
    assert not changed(before, found)
    assert [part.training for part in found.modules()] == modes
    assert not h.requires_grad
    assert not z.requires_grad


def evaluation_sees_one_image_at_a_time(method: Method) -> None:
    """The embedding of an image does not depend on the others."""
    found = learner(small(method))
    images = batch(method).views[0]
    alone = torch.cat([found.embed(image[None])[1] for image in images])
    torch.testing.assert_close(found.embed(images)[1], alone, rtol=1e-4, atol=1e-5)


def chance_lies_above_the_floor(method: Method) -> None:
    """Both finite, for several sizes of batch."""
    for size in (2, 64, 4096):
        chance, lower_bound = method.chance_level(size), method.lower_bound(size, 128)
        assert math.isfinite(chance)
        assert math.isfinite(lower_bound)
        assert lower_bound <= chance


METHOD_CHECKS: tuple[Callable[[Method], None], ...] = (
    is_a_plain_value,
    prints_what_makes_it_again,
    begins_alike_from_one_seed,
    is_finite_at_the_start,
    reaches_every_trained_parameter,
    leaves_targets_and_critics_without_gradient,
    loss_moves_nothing,
    loss_that_fails_moves_nothing,
    after_step_moves_no_trained_parameter,
    after_step_moves_each_statistic_once,
    is_the_same_twice,
    does_not_see_the_order_of_images,
    goes_on_from_its_state,
    survives_a_copy,
    micro_batches_give_the_whole_gradient,
    micro_batches_count_statistics_once,
    bf16_is_near,
    a_pixel_that_is_no_number_shows,
    one_label_for_all_is_finite,
    no_label_known_is_finite,
    one_image_many_times_is_finite,
    black_images_are_finite,
    large_and_small_embeddings_are_finite,
    labels_are_asked_for_where_needed,
    another_number_of_views_is_refused,
    learns_on_a_toy,
    does_not_collapse_on_a_toy,
    evaluation_moves_nothing,
    evaluation_sees_one_image_at_a_time,
    chance_lies_above_the_floor,
)
