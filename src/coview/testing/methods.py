"""The contract of methods: what a learner of any method value must and must not do."""

from __future__ import annotations

import ast
import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from coview.core.batches import Batch
from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.values import decode, encode, fingerprint
from coview.heads import HeadSpec
from coview.methods import Learner, Method, Passes
from coview.methods.batch_norm import batch_norms
from coview.recipes import known_values
from coview.testing.contract import run_checks
from coview.testing.ranks import on_each_rank, thread_ranks

STEPS = 100


def check_method(method: Method) -> None:
    """Run METHOD_CHECKS; raises AssertionError with the names of the failed checks.

    >>> from coview.methods import simclr
    >>> check_method(simclr(8))
    """
    run_checks(METHOD_CHECKS, method)


class Colors(nn.Module):
    """A small encoder of images of any size; without ``norm`` no image depends on the others."""

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
        h: Tensor = self.dense(x.mean((2, 3)))
        return h


def make_learner(
    method: Method, *, norm: bool = True, passes: Passes | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Learner:  # fmt: skip
    """A learner of ``method``, shrunk, on a small encoder, in float32."""
    encoder: nn.Module = Colors(norm=norm)
    return Learner(
        shrink(method), encoder, total_steps=STEPS,  # type: ignore[arg-type]
        passes=passes or Passes(), ranks=ranks,
    )  # fmt: skip


def make_batch(method: Method, images: int = 8, *, seed: int = 0, step: int = 0) -> Batch:
    """Images of different colors, views with a little noise, two labels."""
    generator = torch.Generator().manual_seed(seed)
    colors = torch.rand(images, 3, 1, 1, generator=generator)
    views = tuple(
        (colors + 0.1 * torch.randn(images, 3, spec.size, spec.size, generator=generator))
        for spec in shrink(method).views.views
    )
    ids = torch.arange(images) + 1000 * (seed + 1)
    return Batch(step=step, epoch=0, views=views, ids=ids, labels=torch.arange(images) % 2)


def shrink(method: Method) -> Method:
    """The method on views of at most 8 pixels and with a short queue, for speed."""
    views = tuple(replace(view, size=min(view.size, 8), blur=None) for view in method.views.views)
    queue = method.memory and replace(method.memory, length=min(method.memory.length, 32))
    return replace(method, views=replace(method.views, views=views), memory=queue)


def total_loss(model: Learner, views: Batch) -> Tensor:
    return torch.stack(list(model.loss(views, views.step).values())).sum()


def clone_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed_names(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    """The names of the tensors that differ from ``before``."""
    return {n for n, v in module.state_dict().items() if not torch.equal(before[n], v)}


def train(model: Learner, steps: int, rate: float = 0.03) -> list[float]:
    """The losses of ``steps`` steps of SGD on one batch."""
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=rate, momentum=0.9
    )
    losses = []
    for step in range(steps):
        views = make_batch(model.method, step=step)
        loss = total_loss(model, views)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.after_step(step)
        losses.append(float(loss.detach()))
    return losses


def json_round_trip_gives_equal_value(method: Method) -> None:
    """Hashable, equal to a copy, and its JSON gives it back."""
    assert hash(method) == hash(copy.deepcopy(method))
    again = decode(encode(method), known_values())
    assert again == method
    assert fingerprint(again) == fingerprint(method)


def repr_round_trip_gives_equal_value(method: Method) -> None:
    """``repr`` is a Python expression of an equal value."""
    assert value_from_repr(repr(method)) == method


def value_from_repr(text: str) -> Any:
    """The value whose ``repr`` is ``text``; builds only literals and known classes, without eval.

    >>> value_from_repr("Queue(length=3)")
    Queue(length=3)
    """
    classes = {kind.__name__: kind for kind in known_values()}

    def build(node: ast.expr) -> Any:
        if isinstance(node, ast.Tuple):
            return tuple(build(item) for item in node.elts)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            fields = {str(word.arg): build(word.value) for word in node.keywords}
            return classes[node.func.id](**fields)
        return ast.literal_eval(node)

    return build(ast.parse(text, mode="eval").body)


def same_seed_gives_same_initial_state(method: Method) -> None:
    """Two learners of one seed have the same first values."""
    assert not changed_names(clone_state(make_learner(method)), make_learner(method))


def initial_loss_is_finite(method: Method) -> None:
    """For batches of 2, 3 and 8 images."""
    for images in (2, 3, 8):
        value = total_loss(make_learner(method), make_batch(method, images))
        assert torch.isfinite(value), f"{value.detach()} for {images} images"


def every_trained_parameter_has_a_gradient(method: Method) -> None:
    """Every parameter that an optimizer would update."""
    model = make_learner(method)
    total_loss(model, make_batch(method)).backward()  # type: ignore[no-untyped-call]
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, f"no gradient: {without}"


def untrained_parameters_have_no_gradient(method: Method) -> None:
    """Those of the momentum encoder and the critic."""
    model = make_learner(method)
    total_loss(model, make_batch(method)).backward()  # type: ignore[no-untyped-call]
    wrong = [n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None]
    assert not wrong, f"a gradient: {wrong}"


def loss_does_not_change_the_state(method: Method) -> None:
    """Parameters, statistics, queue and critic are bit-identical after loss and backward."""
    model = make_learner(method)
    before = clone_state(model)
    total_loss(model, make_batch(method)).backward()  # type: ignore[no-untyped-call]
    assert not changed_names(before, model)


def failing_loss_does_not_change_the_state(method: Method) -> None:
    model = make_learner(method)
    before = clone_state(model)
    views = make_batch(method)
    broken = replace(views, views=(*views.views[:-1], views.views[-1][:, :2]))
    try:
        model.loss(broken, 0)
    except Exception:
        assert not changed_names(before, model)
    else:
        raise AssertionError("images of two channels were accepted")


def after_step_does_not_change_trained_parameters(method: Method) -> None:
    """Only the optimizer changes them."""
    model = make_learner(method)
    before = clone_state(model)
    total_loss(model, make_batch(method))
    model.after_step(0)
    own = {n for n, p in model.named_parameters() if p.requires_grad}
    assert not changed_names(before, model) & own


def after_step_updates_statistics_once(method: Method) -> None:
    """A second call without a new loss changes only the momentum encoder."""
    model = make_learner(method)
    total_loss(model, make_batch(method))
    model.after_step(0)
    before = clone_state(model)
    model.after_step(1)
    changed = {
        name for name in changed_names(before, model) if not name.startswith("momentum_encoder.")
    }
    assert not changed, f"changed again: {changed}"


def loss_is_deterministic(method: Method) -> None:
    """The same batch gives the same loss, bit for bit."""
    model = make_learner(method)
    assert torch.equal(total_loss(model, make_batch(method)), total_loss(model, make_batch(method)))


def loss_ignores_the_order_of_images(method: Method) -> None:
    """The similarity term only: a critic's negatives are neighbors in the batch."""
    if method.batch_norm == "ghost":
        return
    model = make_learner(method)
    views = make_batch(method)
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(1))
    assert views.labels is not None
    shuffled = replace(
        views, views=tuple(view[order] for view in views.views), ids=views.ids[order],
        labels=views.labels[order],
    )  # fmt: skip
    first, second = model.loss(views, 0), model.loss(shuffled, 0)
    name = type(method.objective).__name__
    torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)


def loaded_state_gives_the_same_loss(method: Method) -> None:
    """A new learner with the state of another one gives the same loss."""
    model = make_learner(method)
    train(model, 3)
    other = make_learner(method)
    other.load_state_dict(model.state_dict())
    assert torch.equal(
        total_loss(model, make_batch(method, step=3)), total_loss(other, make_batch(method, step=3))
    )


def deep_copy_is_independent(method: Method) -> None:
    """A deep copy gives the same loss and shares no tensor."""
    model = make_learner(method)
    twin = copy.deepcopy(model)
    assert torch.equal(total_loss(model, make_batch(method)), total_loss(twin, make_batch(method)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(bool(p.any()) for p in twin.encoder.parameters() if p.ndim > 1)


def micro_batches_give_the_full_batch_gradient(method: Method) -> None:
    """Without BatchNorm: in parts of 3 of 8 images, the last smaller."""
    plain = remove_norm(method)
    gradients = []
    for micro_batch in (None, 3):
        model = make_learner(plain, norm=False, passes=Passes(micro_batch=micro_batch)).double()
        views = make_batch(method)
        views = replace(views, views=tuple(view.double() for view in views.views))
        total_loss(model, views).backward()  # type: ignore[no-untyped-call]
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-8, atol=1e-11, msg=name)


def several_processes_give_the_gradient_of_one(method: Method) -> None:
    """Without BatchNorm: two processes share 8 images, 5 and 3. The mean of their gradients is that
    of one process, and the state after the step is, too. Threads take the place of processes."""
    plain, sizes = remove_norm(method), (5, 3)
    views = make_batch(method)
    views = replace(views, views=tuple(view.double() for view in views.views))
    assert views.labels is not None
    batches = [
        replace(views, views=parts, ids=ids, labels=labels, sizes=sizes)
        for parts, ids, labels in zip(
            zip(*(torch.split(view, list(sizes)) for view in views.views), strict=True),
            torch.split(views.ids, list(sizes)), torch.split(views.labels, list(sizes)),
            strict=True,
        )
    ]  # fmt: skip

    group = thread_ranks(len(sizes))
    one, *models = (
        make_learner(plain, norm=False, ranks=ranks).double() for ranks in (SINGLE_PROCESS, *group)
    )

    def step(model: Learner, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        total_loss(model, batch).backward()  # type: ignore[no-untyped-call]
        model.after_step(0)
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        return gradients, model.state_dict()

    expected, state = step(one, views)
    found = on_each_rank(group, lambda ranks: step(models[ranks.rank], batches[ranks.rank]))
    for name, gradient in expected.items():
        mean = torch.stack([gradients[name] for gradients, _ in found]).mean(0)
        torch.testing.assert_close(
            mean, gradient, rtol=1e-8, atol=1e-11, msg=f"the gradient of {name} differs"
        )
    for _, after in found:
        for name, value in state.items():
            torch.testing.assert_close(
                after[name], value, rtol=1e-8, atol=1e-11, msg=f"{name} differs after the step"
            )


def remove_norm(method: Method) -> Method:
    """The method without BatchNorm in its heads."""

    def plain(head: HeadSpec) -> HeadSpec:
        return replace(head, batch_norm="none", bias="all", init="torch")

    predictor = method.predictor and plain(method.predictor)
    return replace(
        method, head=plain(method.head), predictor=predictor, batch_norm="per view",
        ghost_batch_size=None,
    )  # fmt: skip


def micro_batches_update_statistics_once(method: Method) -> None:
    """BatchNorm counts the same number of batches as without micro-batches."""
    counts = []
    for part in (None, 4):
        model = make_learner(method, passes=Passes(micro_batch=part))
        total_loss(model, make_batch(method))
        model.after_step(0)
        counts.append([int(norm.num_batches_tracked or 0) for norm in batch_norms(model)])
    assert counts[0] == counts[1]


def bf16_is_close_to_float32(method: Method) -> None:
    """Under autocast to bf16 the loss differs by at most 5 %."""
    model = make_learner(method)
    exact = float(total_loss(model, make_batch(method)).detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = float(total_loss(model, make_batch(method)).detach())
    assert math.isclose(exact, rounded, rel_tol=0.05, abs_tol=0.05), f"{rounded} for {exact}"


def nan_pixel_makes_the_loss_nan(method: Method) -> None:
    """The loss is not finite, so the step will be skipped."""
    views = make_batch(method)
    broken = views.views[0].clone()
    broken[0, 0, 0, 0] = math.nan
    value = total_loss(make_learner(method), replace(views, views=(broken, *views.views[1:])))
    assert not torch.isfinite(value)


def equal_labels_give_a_finite_step(method: Method) -> None:
    views = replace(make_batch(method), labels=torch.zeros(8, dtype=torch.int64))
    _assert_finite_step(method, views)


def unknown_labels_give_a_finite_step(method: Method) -> None:
    _assert_finite_step(method, replace(make_batch(method), labels=torch.full((8,), -1)))


def repeated_images_give_a_finite_step(method: Method) -> None:
    """All images have the same id and pixels."""
    views = make_batch(method)
    same = tuple(view[:1].expand_as(view).contiguous() for view in views.views)
    _assert_finite_step(method, replace(views, views=same, ids=views.ids[:1].repeat(8)))


def black_images_give_a_finite_step(method: Method) -> None:
    views = make_batch(method)
    _assert_finite_step(method, replace(views, views=tuple(map(torch.zeros_like, views.views))))


def extreme_embeddings_give_a_finite_step(method: Method) -> None:
    """Embeddings scaled by a million and by a millionth."""
    for scale in (1e6, 1e-6):
        model = make_learner(method)
        last = [p for p in model.head.parameters() if p.ndim > 1][-1]
        with torch.no_grad():
            last.mul_(scale)
        value = total_loss(model, make_batch(method))
        value.backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(value), f"loss at scale {scale:g}"
        assert _gradients_are_finite(model), f"gradient at scale {scale:g}"


def _assert_finite_step(method: Method, views: Batch) -> None:
    model = make_learner(method)
    value = total_loss(model, views)
    value.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(value), f"the loss is {value.detach()}"
    assert _gradients_are_finite(model)


def _gradients_are_finite(model: Learner) -> bool:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def missing_labels_raise_only_if_needed(method: Method) -> None:
    """Without labels a supervised method raises InvalidValue; any other gives a finite loss."""
    views = replace(make_batch(method), labels=None)
    try:
        value = total_loss(make_learner(method), views)
    except InvalidValue:
        assert method.needs_labels
    else:
        assert not method.needs_labels
        assert torch.isfinite(value)


def wrong_number_of_views_raises(method: Method) -> None:
    views = make_batch(method)
    try:
        make_learner(method).loss(replace(views, views=views.views[:-1]), 0)
    except InvalidValue:
        return
    raise AssertionError("a batch that lacks a view was accepted")


def loss_decreases_without_collapse_on_toy_data(method: Method) -> None:
    """Eighty steps on eight colors decrease the loss, after a memory is full of their keys (it
    starts with random keys, which are easy negatives); the embeddings still differ then."""
    model = make_learner(method)
    start = 0 if method.memory is None else 10
    losses = train(model, 80)
    early, late = losses[start : start + 5], losses[-5:]
    assert sum(late) < sum(early), f"{early[0]:.3f} -> {late[-1]:.3f}"
    z = normalize(model.embed(make_batch(method).views[0])[1], dim=1)
    spread = float((1 - z.mean(0).square().sum()).clamp_min(0).sqrt())
    assert spread > 0.05, f"spread {spread:.3f}"


def embed_does_not_change_the_state(method: Method) -> None:
    """State and modes stay; h and z need no gradient."""
    model = make_learner(method).train()
    before, modes = clone_state(model), [module.training for module in model.modules()]
    h, z = model.embed(make_batch(method).views[0])
    assert not changed_names(before, model)
    assert [module.training for module in model.modules()] == modes
    assert not h.requires_grad
    assert not z.requires_grad


def embedding_does_not_depend_on_the_batch(method: Method) -> None:
    """In evaluation mode."""
    model = make_learner(method)
    images = make_batch(method).views[0]
    alone = torch.cat([model.embed(image[None])[1] for image in images])
    torch.testing.assert_close(model.embed(images)[1], alone, rtol=1e-4, atol=1e-5)


def chance_level_is_above_the_lower_bound(method: Method) -> None:
    """Both are finite, for several batch sizes."""
    for size in (2, 64, 4096):
        chance_level, lower_bound = method.chance_level(size), method.lower_bound(size, 128)
        assert math.isfinite(chance_level)
        assert math.isfinite(lower_bound)
        assert lower_bound <= chance_level


METHOD_CHECKS: tuple[Callable[[Method], None], ...] = (
    json_round_trip_gives_equal_value, repr_round_trip_gives_equal_value,
    same_seed_gives_same_initial_state, initial_loss_is_finite,
    every_trained_parameter_has_a_gradient, untrained_parameters_have_no_gradient,
    loss_does_not_change_the_state, failing_loss_does_not_change_the_state,
    after_step_does_not_change_trained_parameters, after_step_updates_statistics_once,
    loss_is_deterministic, loss_ignores_the_order_of_images, loaded_state_gives_the_same_loss,
    deep_copy_is_independent, micro_batches_give_the_full_batch_gradient,
    several_processes_give_the_gradient_of_one, micro_batches_update_statistics_once,
    bf16_is_close_to_float32, nan_pixel_makes_the_loss_nan,
    equal_labels_give_a_finite_step, unknown_labels_give_a_finite_step,
    repeated_images_give_a_finite_step, black_images_give_a_finite_step,
    extreme_embeddings_give_a_finite_step, missing_labels_raise_only_if_needed,
    wrong_number_of_views_raises, loss_decreases_without_collapse_on_toy_data,
    embed_does_not_change_the_state, embedding_does_not_depend_on_the_batch,
    chance_level_is_above_the_lower_bound,
)  # fmt: skip
