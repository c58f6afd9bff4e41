"""The contract of the objectives of methods, for set and for pair objectives."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.methods import Negatives, PairObjective, SetObjective
from coview.testing.contract import json_round_trip_gives_equal_value, run_checks
from coview.testing.ranks import on_each_rank, thread_ranks

Objective = SetObjective | PairObjective
IMAGES, WIDTH = 7, 6


def check_objective(objective: Objective) -> None:
    """Run every check of OBJECTIVE_CHECKS; AssertionError names those that fail.

    >>> from coview.methods import NTXent
    >>> check_objective(NTXent(temperature=0.5))
    """
    run_checks(OBJECTIVE_CHECKS, objective)


def compute_loss(
    objective: Objective, first: Tensor, second: Tensor, labels: Tensor | None = None, *,
    ids: Tensor | None = None, ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:  # fmt: skip
    """The loss of two views of the same images, with five negatives if the objective takes any."""
    if labels is None:
        labels = torch.arange(len(first)) % 3
    if isinstance(objective, SetObjective):
        return objective([first, second], labels, ranks)
    negatives = None
    if objective.takes_negatives:
        rows = random_rows(5, seed=9).to(first.dtype)
        negatives = Negatives(rows=rows, ids=torch.full((5,), -1))
    ids = torch.arange(len(first)) if ids is None else ids
    return objective(first, second, ids, negatives, ranks)


def random_rows(count: int = IMAGES, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, WIDTH, generator=generator, dtype=torch.float64)


def two_views() -> tuple[Tensor, Tensor]:
    """Two related views in float64."""
    first = random_rows()
    return first, first + 0.5 * random_rows(seed=1)


def sees_directions(objective: Objective) -> bool:
    """Whether the loss depends on the directions of the embeddings only."""
    return not isinstance(objective, SetObjective) or objective.scale_invariant


def mines_negatives(objective: Objective) -> bool:
    return isinstance(objective, SetObjective) and objective.mines_negatives


def gives_one_finite_number(objective: Objective) -> None:
    loss = compute_loss(objective, *two_views())
    assert loss.shape == ()
    assert torch.isfinite(loss)


def agrees_with_finite_differences(objective: Objective) -> None:
    """gradcheck in float64, in both views."""
    _gradcheck(objective, *two_views())


def agrees_with_finite_differences_on_axes(objective: Objective) -> None:
    """gradcheck in float64 where the rows of the first view are along the axes.

    Their largest entry is their norm: a clamp of the norm hides its gradient. Not checked where
    negatives are mined: two rows along one axis are a tie, at which the choice jumps.
    """
    if mines_negatives(objective):
        return
    first, second = two_views()
    axes = torch.eye(WIDTH, dtype=first.dtype)[torch.arange(IMAGES) % WIDTH]
    _gradcheck(objective, axes * first.sum(1, keepdim=True), second)


def ignores_length(objective: Objective) -> None:
    """Rows scaled one by one give the same loss."""
    if not sees_directions(objective):
        return
    first, second = two_views()
    scales = torch.logspace(-3, 3, IMAGES, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        compute_loss(objective, first * scales, second / scales),
        compute_loss(objective, first, second),
    )


def ignores_order(objective: Objective) -> None:
    """The images in another order give the same loss."""
    first, second = two_views()
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(IMAGES) % 3
    torch.testing.assert_close(
        compute_loss(objective, first[order], second[order], labels[order]),
        compute_loss(objective, first, second, labels),
    )


def several_processes_give_the_loss_of_one(objective: Objective) -> None:
    """Of 7 images that two processes share, 4 and 3: the mean of their losses is that of all
    images, and so is the gradient. Threads take the place of processes."""
    views, ids = two_views(), torch.arange(IMAGES)
    whole = [rows.clone().requires_grad_() for rows in views]
    loss = compute_loss(objective, whole[0], whole[1], ids % 3, ids=ids)
    loss.backward()  # type: ignore[no-untyped-call]
    parts = (slice(0, 4), slice(4, IMAGES))

    def part(ranks: Ranks) -> tuple[Tensor, list[Tensor | None]]:
        mine = [rows[parts[ranks.rank]].clone().requires_grad_() for rows in views]
        own = ids[parts[ranks.rank]]
        value = compute_loss(objective, mine[0], mine[1], own % 3, ids=own, ranks=ranks)
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach(), [rows.grad for rows in mine]

    found = on_each_rank(thread_ranks(len(parts)), part)
    mean = torch.stack([value for value, _ in found]).mean()
    torch.testing.assert_close(mean, loss.detach(), msg=f"the loss is {mean}, of one {loss}")
    for view, rows in enumerate(whole):
        grads = [gradients[view] for _, gradients in found]
        if rows.grad is None:
            assert grads == [None] * len(parts)
            continue
        joined = torch.cat([
            torch.zeros_like(rows[mine]) if grad is None else grad / len(parts)
            for grad, mine in zip(grads, parts, strict=True)
        ])  # fmt: skip
        torch.testing.assert_close(joined, rows.grad, msg="the gradient differs")


def prefers_views_that_agree(objective: Objective) -> None:
    """Equal views cost less than views of other images, but where negatives are mined."""
    if not sees_directions(objective) or mines_negatives(objective):
        return
    first, _ = two_views()
    alone = torch.arange(IMAGES)
    assert compute_loss(objective, first, first, alone) < compute_loss(
        objective, first, first.roll(1, 0), alone
    )


def gradient_is_across_the_row(objective: Objective) -> None:
    """The gradient has no component along the row, because its length does not matter."""
    if not sees_directions(objective):
        return
    first, second = two_views()
    first.requires_grad_()
    compute_loss(objective, first, second).backward()  # type: ignore[no-untyped-call]
    assert first.grad is not None
    along = (first.grad * first).sum(1)
    torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-9, rtol=0)


def equal_embeddings_give_chance_level(objective: Objective) -> None:
    """``chance_level`` is the loss of equal embeddings.

    Not checked for a pair objective without negatives: equal embeddings are its lower bound.
    """
    same = torch.ones(IMAGES, WIDTH, dtype=torch.float64)
    if isinstance(objective, SetObjective):
        expected = objective.chance_level(IMAGES, views=2) if objective.scale_invariant else None
    elif objective.takes_negatives:
        negatives = Negatives(rows=same[:5], ids=torch.full((5,), -1))
        loss = objective(same, same, torch.arange(IMAGES), negatives)
        assert math.isclose(float(loss), objective.chance_level(5), rel_tol=1e-9)
        return
    else:
        expected = None
    if expected is not None:
        loss = compute_loss(objective, same, same)
        assert math.isclose(float(loss), expected, rel_tol=1e-9), f"{float(loss)}, not {expected}"


def zero_rows_are_finite(objective: Objective) -> None:
    _check_finite(objective, torch.zeros(IMAGES, WIDTH), torch.zeros(IMAGES, WIDTH))


def huge_rows_are_finite(objective: Objective) -> None:
    """Entries near the end of float32, in all rows or in one, give a finite loss and gradient."""
    if not sees_directions(objective):
        return
    first, second = (rows.float() for rows in two_views())
    _check_finite(objective, first * 1e30, second * 1e30)
    first[0] *= 1e30
    _check_finite(objective, first, second)


def identical_rows_are_finite(objective: Objective) -> None:
    _check_finite(objective, torch.ones(IMAGES, WIDTH), torch.ones(IMAGES, WIDTH))


def one_class_is_finite(objective: Objective) -> None:
    """Equal labels, and unknown ones, give a finite loss and gradient."""
    for label in (0, -1):
        first, second = (rows.float() for rows in two_views())
        _check_finite(objective, first, second, torch.full((IMAGES,), label))


def half_precision_is_near(objective: Objective) -> None:
    """bf16 and fp16 embeddings give a float32 loss within 2 % of the exact one."""
    first, second = two_views()
    exact = compute_loss(objective, first, second)
    for dtype in (torch.bfloat16, torch.float16):
        loss = compute_loss(objective, first.to(dtype), second.to(dtype))
        assert loss.dtype == torch.float32, f"{loss.dtype} for {dtype}"
        torch.testing.assert_close(loss.double(), exact, rtol=0.02, atol=0.02)


def autocast_changes_nothing(objective: Objective) -> None:
    """The loss is computed in float32 inside autocast too."""
    first, second = (rows.float() for rows in two_views())
    outside = compute_loss(objective, first, second)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compute_loss(objective, first, second), outside)


def _gradcheck(objective: Objective, first: Tensor, second: Tensor) -> None:
    views = (first.requires_grad_(), second.requires_grad_())
    torch.autograd.gradcheck(lambda a, b: compute_loss(objective, a, b), views)


def _check_finite(
    objective: Objective, first: Tensor, second: Tensor, labels: Tensor | None = None
) -> None:
    first, second = first.clone().requires_grad_(), second.clone().requires_grad_()
    loss = compute_loss(objective, first, second, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss), f"the loss is {loss.detach()}"
    for rows in (first, second):
        assert rows.grad is None or bool(torch.isfinite(rows.grad).all())


OBJECTIVE_CHECKS: tuple[Callable[[Objective], None], ...] = (
    json_round_trip_gives_equal_value, gives_one_finite_number, agrees_with_finite_differences,
    agrees_with_finite_differences_on_axes, ignores_length, ignores_order,
    several_processes_give_the_loss_of_one, prefers_views_that_agree, gradient_is_across_the_row,
    equal_embeddings_give_chance_level, zero_rows_are_finite, huge_rows_are_finite,
    identical_rows_are_finite, one_class_is_finite, half_precision_is_near,
    autocast_changes_nothing,
)  # fmt: skip
