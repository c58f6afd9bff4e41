"""The contract of objectives of methods: set and pair objectives alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from coview.core.values import decode, encode
from coview.methods import Negatives, PairObjective, SetObjective
from coview.recipes import known_values
from coview.testing.contract import run_checks

Objective = SetObjective | PairObjective
IMAGES, WIDTH = 7, 6


def check_objective(objective: Objective) -> None:
    """Every check of OBJECTIVE_CHECKS; AssertionError names those that fail."""
    run_checks(OBJECTIVE_CHECKS, objective)


def value(
    objective: Objective, first: Tensor, second: Tensor, labels: Tensor | None = None
) -> Tensor:
    """The objective on two views of the same images, with five negatives where it takes any."""
    if labels is None:
        labels = torch.arange(len(first)) % 3
    if isinstance(objective, SetObjective):
        return objective([first, second], labels)
    negatives = None
    if objective.takes_negatives:
        rows = rows_of(5, seed=9).to(first.dtype)
        negatives = Negatives(rows=rows, ids=torch.full((5,), -1))
    return objective(first, second, torch.arange(len(first)), negatives)


def rows_of(count: int = IMAGES, *, seed: int = 0) -> Tensor:
    """Random embeddings in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, WIDTH, generator=generator, dtype=torch.float64)


def pair() -> tuple[Tensor, Tensor]:
    """Two views: related, not equal."""
    first = rows_of()
    return first, first + 0.5 * rows_of(seed=1)


def sees_directions(objective: Objective) -> bool:
    """Whether embeddings count by their direction alone."""
    return not isinstance(objective, SetObjective) or objective.scale_invariant


def is_a_plain_value(objective: Objective) -> None:
    """Hashable, and its JSON gives it back."""
    assert decode(encode(objective), known_values()) == objective
    assert hash(objective) == hash(decode(encode(objective), known_values()))


def gives_one_finite_number(objective: Objective) -> None:
    """A scalar."""
    found = value(objective, *pair())
    assert found.shape == ()
    assert torch.isfinite(found)


def agrees_with_finite_differences(objective: Objective) -> None:
    """gradcheck in float64, in both views."""
    first, second = (rows.requires_grad_() for rows in pair())
    torch.autograd.gradcheck(lambda a, b: value(objective, a, b), (first, second))


def sees_no_length(objective: Objective) -> None:
    """Rows scaled one by one give the same value."""
    if not sees_directions(objective):
        return
    first, second = pair()
    scales = torch.logspace(-3, 3, IMAGES, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        value(objective, first * scales, second / scales), value(objective, first, second)
    )


def sees_no_order(objective: Objective) -> None:
    """The images in another order give the same value."""
    first, second = pair()
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(IMAGES) % 3
    torch.testing.assert_close(
        value(objective, first[order], second[order], labels[order]),
        value(objective, first, second, labels),
    )


def prefers_views_that_agree(objective: Objective) -> None:
    """Equal views cost less than views of other images."""
    if not sees_directions(objective):
        return
    first, _ = pair()
    alone = torch.arange(IMAGES)
    assert value(objective, first, first, alone) < value(objective, first, first.roll(1, 0), alone)


def gradient_is_across_the_row(objective: Objective) -> None:
    """No component along the row, of which only the direction counts."""
    if not sees_directions(objective):
        return
    first, second = pair()
    first.requires_grad_()
    value(objective, first, second).backward()  # type: ignore[no-untyped-call]
    assert first.grad is not None
    along = (first.grad * first).sum(1)
    torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-9, rtol=0)


def equal_embeddings_cost_chance(objective: Objective) -> None:
    """The value that the objective gives for chance is that of equal embeddings.

    A pair objective without negatives is at its floor there, so that it is not asked.
    """
    same = torch.ones(IMAGES, WIDTH, dtype=torch.float64)
    if isinstance(objective, SetObjective):
        expected = objective.chance_level(IMAGES, views=2) if objective.scale_invariant else None
    elif objective.takes_negatives:
        negatives = Negatives(rows=same[:5], ids=torch.full((5,), -1))
        found = objective(same, same, torch.arange(IMAGES), negatives)
        assert math.isclose(float(found), objective.chance_level(5), rel_tol=1e-9)
        return
    else:
        expected = None
    if expected is not None:
        found = value(objective, same, same)
        assert math.isclose(float(found), expected, rel_tol=1e-9), f"{float(found)}, not {expected}"


def zero_rows_are_finite(objective: Objective) -> None:
    """Value and gradient."""
    _finite(objective, torch.zeros(IMAGES, WIDTH), torch.zeros(IMAGES, WIDTH))


def huge_rows_are_finite(objective: Objective) -> None:
    """Value and gradient, for entries near the end of float32; a row among ordinary ones."""
    if not sees_directions(objective):
        return
    first, second = (rows.float() for rows in pair())
    _finite(objective, first * 1e30, second * 1e30)
    first[0] *= 1e30
    _finite(objective, first, second)


def identical_rows_are_finite(objective: Objective) -> None:
    """Value and gradient where all images are alike."""
    _finite(objective, torch.ones(IMAGES, WIDTH), torch.ones(IMAGES, WIDTH))


def one_class_is_finite(objective: Objective) -> None:
    """Value and gradient where all labels are equal, and where all are unknown."""
    for label in (0, -1):
        first, second = (rows.float() for rows in pair())
        _finite(objective, first, second, torch.full((IMAGES,), label))


def half_precision_is_near(objective: Objective) -> None:
    """bf16 and fp16 embeddings give float32 values within 2 % of the exact ones."""
    first, second = pair()
    exact = value(objective, first, second)
    for dtype in (torch.bfloat16, torch.float16):
        found = value(objective, first.to(dtype), second.to(dtype))
        assert found.dtype == torch.float32, f"{found.dtype} for {dtype}"
        torch.testing.assert_close(found.double(), exact, rtol=0.02, atol=0.02)


def autocast_changes_nothing(objective: Objective) -> None:
    """Inside autocast the arithmetic of the loss is float32 still."""
    first, second = (rows.float() for rows in pair())
    outside = value(objective, first, second)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(value(objective, first, second), outside)


def _finite(
    objective: Objective, first: Tensor, second: Tensor, labels: Tensor | None = None
) -> None:
    first, second = first.clone().requires_grad_(), second.clone().requires_grad_()
    found = value(objective, first, second, labels)
    found.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(found), f"the value is {found.detach()}"
    for rows in (first, second):
        assert rows.grad is None or bool(torch.isfinite(rows.grad).all())


OBJECTIVE_CHECKS: tuple[Callable[[Objective], None], ...] = (
    is_a_plain_value,
    gives_one_finite_number,
    agrees_with_finite_differences,
    sees_no_length,
    sees_no_order,
    prefers_views_that_agree,
    gradient_is_across_the_row,
    equal_embeddings_cost_chance,
    zero_rows_are_finite,
    huge_rows_are_finite,
    identical_rows_are_finite,
    one_class_is_finite,
    half_precision_is_near,
    autocast_changes_nothing,
)
